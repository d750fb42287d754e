//! Pages of long attributes, and the two ways to ask for them: `name~N` for programs, `name@N` for people.
//!
//! Pure. Source: client.md 5.8.

/// Characters of a page.
const PAGE_BYTES: usize = 40_000;

/// Which part of an attribute is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The plain name: the first page.
    Whole,
    /// `name~N`.
    Page(usize),
    /// `name~?`: how many pages there are.
    Count,
    /// `name@N`: a page with a line about it.
    Titled(usize),
    /// `name@?`: how to ask.
    Help,
}

impl Part {
    /// Takes a name apart; a suffix that is none belongs to the name.
    pub(super) fn of(name: &str) -> (&str, Self) {
        let Some((plain, suffix)) = name.rsplit_once(['~', '@']) else { return (name, Self::Whole) };
        let is_for_people = name.as_bytes()[plain.len()] == b'@';
        match (suffix, suffix.parse::<usize>(), is_for_people) {
            ("?", _, false) => (plain, Self::Count),
            ("?", _, true) => (plain, Self::Help),
            (_, Ok(page), false) => (plain, Self::Page(page)),
            (_, Ok(page), true) => (plain, Self::Titled(page)),
            _ => (name, Self::Whole),
        }
    }

    /// Returns that part of a value; `None` for a page that there is not.
    pub(super) fn cut(self, name: &str, value: &[u8]) -> Option<Vec<u8>> {
        let count = value.len().div_ceil(PAGE_BYTES).max(1);
        let page = |number: usize| {
            let from = number.checked_mul(PAGE_BYTES).filter(|_| number < count)?;
            Some(&value[from..value.len().min(from + PAGE_BYTES)])
        };
        match self {
            Self::Whole => page(0).map(<[u8]>::to_vec),
            Self::Page(number) => page(number).map(<[u8]>::to_vec),
            Self::Count => Some(format!("num_pages, {count}").into_bytes()),
            Self::Titled(number) => {
                let title = match page(number) {
                    Some(_) => format!("# Page {number} of {name}; the last one is {}\n", count - 1),
                    None => format!("# There is no page {number} of {name}; the last one is {}\n", count - 1),
                };
                Some([title.as_bytes(), page(number).unwrap_or_default()].concat())
            }
            Self::Help => Some(
                format!(
                    "{name} has {count} pages, from 0 to {}. {name}@N shows page N with a title, {name}~N the bare page, \
                     {name}~? the number of pages.\n",
                    count - 1
                )
                .into_bytes(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart() {
        let cases = [
            ("user.x", ("user.x", Part::Whole)),
            ("user.x~0", ("user.x", Part::Page(0))),
            ("user.x~17", ("user.x", Part::Page(17))),
            ("user.x~?", ("user.x", Part::Count)),
            ("user.x@3", ("user.x", Part::Titled(3))),
            ("user.x@?", ("user.x", Part::Help)),
            ("user.x~", ("user.x~", Part::Whole)),
            ("user.x~-1", ("user.x~-1", Part::Whole)),
            ("user@home", ("user@home", Part::Whole)),
        ];
        for (name, parts) in cases {
            assert_eq!(Part::of(name), parts, "{name}");
        }
    }

    #[test]
    fn pages_joined_are_the_value() {
        let value: Vec<u8> = (0..100_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
        let joined: Vec<u8> = (0..).map_while(|n| Part::Page(n).cut("x", &value)).flatten().collect();
        assert_eq!(joined, value);
        assert_eq!(Part::Count.cut("x", &value).unwrap(), b"num_pages, 3");
        assert_eq!(Part::Whole.cut("x", &value).unwrap().len(), PAGE_BYTES);
        assert_eq!(Part::Page(3).cut("x", &value), None);
        assert_eq!(Part::Page(usize::MAX).cut("x", &value), None);
        assert!(Part::Titled(2).cut("x", &value).unwrap().starts_with(b"# Page 2 of x"));
        assert!(Part::Titled(9).cut("x", &value).unwrap().starts_with(b"# There is no page 9"));
    }

    #[test]
    fn an_empty_value_has_one_page() {
        assert_eq!(Part::Whole.cut("x", b"").unwrap(), b"");
        assert_eq!(Part::Count.cut("x", b"").unwrap(), b"num_pages, 1");
        assert_eq!(Part::Page(1).cut("x", b""), None);
    }
}

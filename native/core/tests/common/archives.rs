//! Tar archives built block by block, so that a test can say exactly what is in one.

pub const BLOCK: usize = 512;

/// An archive being written; its members are ustar headers with what goes before and behind them.
#[derive(Default)]
pub struct Archive(pub Vec<u8>);

impl Archive {
    /// Adds one header and its content; `change` edits the header's bytes before the checksum is made.
    pub fn raw(&mut self, name: &str, kind: u8, content: &[u8], change: impl FnOnce(&mut [u8])) -> &mut Self {
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, if kind == b'5' { "0000750" } else { "0000640" });
        put(108, "0000017");
        put(116, "0000020");
        put(124, &format!("{:011o}", content.len()));
        put(136, &format!("{:011o}", 1_000_000));
        put(257, "ustar\x0000");
        header[156] = kind;
        change(&mut header);
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        header[154] = 0;
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    pub fn file(&mut self, name: &str, content: &[u8]) -> &mut Self {
        self.raw(name, b'0', content, |_| {})
    }

    pub fn dir(&mut self, name: &str) -> &mut Self {
        self.raw(name, b'5', b"", |_| {})
    }

    /// A symlink (`2`) or a hardlink (`1`).
    pub fn link(&mut self, name: &str, kind: u8, target: &str) -> &mut Self {
        self.raw(name, kind, b"", |header| header[157..157 + target.len()].copy_from_slice(target.as_bytes()))
    }

    /// An extended header for the next member.
    pub fn pax(&mut self, records: &[(&str, &str)]) -> &mut Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length.to_string().len() + rest.len() != length {
                length = length.to_string().len() + rest.len();
            }
            content.extend_from_slice(format!("{length}{rest}").as_bytes());
        }
        self.raw("pax", b'x', &content, |_| {})
    }

    /// The archive with its end.
    pub fn end(&self) -> Vec<u8> {
        [self.0.as_slice(), &[0; 2 * BLOCK]].concat()
    }
}

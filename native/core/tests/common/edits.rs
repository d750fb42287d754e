//! Random edits of a tree.

use proptest::prelude::*;

use super::{Kind, MARKER, Model, Tree, put, take};

pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

pub fn any_path() -> impl Strategy<Value = String> {
    let name = prop_oneof![3 => Just("a"), 3 => Just("b"), 2 => Just("c"), 1 => Just("!x"), 3 => Just(MARKER)];
    prop::collection::vec(name, 1..5).prop_map(|names| {
        // A marker ends the path: it is no directory.
        let end = names.iter().position(|name| *name == MARKER).map_or(names.len(), |index| index + 1);
        format!("/{}", names[..end].join("/"))
    })
}

pub fn any_model() -> impl Strategy<Value = Model> {
    let kind = prop_oneof![
        3 => Just(Kind::Dir),
        3 => "[a-z]{0,9}".prop_map(|text| Kind::File(text.into_bytes())),
        1 => "[a-z]{1,9}".prop_map(Kind::Link),
        1 => (2000_usize..9000, any::<u64>()).prop_map(|(length, seed)| Kind::File(noise(length, seed))),
    ];
    (kind, prop_oneof![Just(0o755), Just(0o700)], 0..5_i64).prop_map(|(kind, mode, mtime)| {
        let mode = if matches!(kind, Kind::Link(_)) { 0o777 } else { mode };
        Model { kind, mode, mtime }
    })
}

pub fn apply(tree: &mut Tree, edits: &[(String, Option<Model>)]) {
    for (path, model) in edits {
        match model {
            None => take(tree, path),
            Some(_) if *path == format!("/{MARKER}") => {}
            Some(model) if path.ends_with(MARKER) => {
                put(tree, path, Model { kind: Kind::File(vec![]), mode: 0o644, ..model.clone() });
            }
            Some(model) => put(tree, path, model.clone()),
        }
    }
}

pub fn any_edits(most: usize) -> impl Strategy<Value = Vec<(String, Option<Model>)>> {
    prop::collection::vec((any_path(), prop::option::weighted(0.7, any_model())), 0..most)
}

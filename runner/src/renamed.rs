// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What has another name than in the version before. The old names work for one version, and dfr0 says so.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

/// Old and new names of cases. The cases that vary them in `shapes` and `migration` follow.
const CASES: [(&str, &str); 5] = [
    ("breakpoints.one_instruction_behind", "breakpoints.one_instruction_after"),
    ("watchpoints.behind_a_breakpoint", "watchpoints.after_a_breakpoint"),
    ("os_lock.registers.written_first_behind_it", "os_lock.registers.written_first_after_it"),
    ("linked_context.breakpoint.to_itself_or_to_none", "linked_context.breakpoint.to_itself_or_to_nothing"),
    ("linked_context.watchpoint.to_itself_or_to_none", "linked_context.watchpoint.to_itself_or_to_nothing"),
];
/// The suites whose cases vary those of others.
const VARYING: [&str; 2] = ["shapes.", "migration."];

static NOTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The present name of a case. For an old name it prints a note to standard error, once.
pub fn case(name: &str) -> Cow<'_, str> {
    let Some(new) = new_name(name) else {
        return Cow::Borrowed(name);
    };
    if NOTED.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned()) {
        let note = "the next version will not know the old name";
        // An error here means that the reader is gone.
        let _ = writeln!(io::stderr(), "dfr0: the case {name} is called {new} now; {note}");
    }
    Cow::Owned(new)
}

fn new_name(name: &str) -> Option<String> {
    let varying = VARYING.into_iter().find(|suite| name.starts_with(suite)).unwrap_or_default();
    let (_, new) = CASES.iter().find(|(old, _)| *old == &name[varying.len()..])?;
    Some(format!("{varying}{new}"))
}

/// The present words of an observation.
pub fn observation(observed: &str) -> String {
    observed.replace(" behind marker ", " after marker ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_is_the_new_one_and_others_are_themselves() {
        assert_eq!(case("watchpoints.behind_a_breakpoint"), "watchpoints.after_a_breakpoint");
        assert_eq!(case("shapes.watchpoints.behind_a_breakpoint"), "shapes.watchpoints.after_a_breakpoint");
        for name in
            ["watchpoints", "watchpoints.fires", "migration.", "other.watchpoints.behind_a_breakpoint"]
        {
            assert_eq!(case(name), name);
        }
    }

    #[test]
    fn old_words_of_an_observation_are_the_new_ones() {
        let new = "exec marker 1: Breakpoint exception after marker 1";
        assert_eq!(observation("exec marker 1: Breakpoint exception behind marker 1"), new);
        assert_eq!(observation(new), new);
    }
}

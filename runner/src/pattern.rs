// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Patterns that name cases: a whole name, its first dotted parts, or a glob.

use crate::renamed;
use glob::Pattern;

/// A pattern that was read once and is compared with many names.
#[derive(Debug)]
pub struct CasePattern<'a> {
    text: &'a str,
    /// None if the text has none of a glob's characters.
    glob: Option<Pattern>,
}

impl<'a> CasePattern<'a> {
    /// Reads a pattern. A malformed glob is an error.
    pub fn new(text: &'a str) -> Result<Self, String> {
        let wrong = |error| format!("\"{text}\" is not a pattern: {error}");
        let glob = text.contains(['*', '?', '[']).then(|| Pattern::new(text)).transpose().map_err(wrong)?;
        Ok(Self { text, glob })
    }

    /// The pattern is the name, its first dotted parts, or a glob that matches it.
    pub fn matches(&self, name: &str) -> bool {
        name.strip_prefix(self.text).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            || self.glob.as_ref().is_some_and(|glob| glob.matches(name))
    }
}

/// The places of the names that a pattern matches; it may be a case's name of the version before. A pattern that matches
/// no name is an error.
pub fn places<'a>(pattern: &str, names: impl Iterator<Item = &'a str>) -> Result<Vec<usize>, String> {
    let pattern = &renamed::case(pattern);
    let read = CasePattern::new(pattern)?;
    let places: Vec<usize> =
        names.enumerate().filter(|(_, name)| read.matches(name)).map(|(place, _)| place).collect();
    if places.is_empty() {
        return Err(format!("no case matches \"{pattern}\"; `dfr0 list` prints all"));
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_a_case_its_parts_or_a_glob() {
        let hit =
            |pattern: &str| CasePattern::new(pattern).map(|pattern| pattern.matches("id_regs.wrps.mask"));
        assert_eq!(hit("id_regs.wrps.mask"), Ok(true));
        assert_eq!(hit("id_regs.wrps"), Ok(true));
        assert_eq!(hit("id_regs"), Ok(true));
        assert_eq!(hit("id_regs.wrp"), Ok(false), "half a part does not match");
        assert_eq!(hit("id_regs.wrp?.mask"), Ok(true));
        assert_eq!(hit("id_regs.wrp[st].mask"), Ok(true));
        assert_eq!(hit("*.mask"), Ok(true));
        assert_eq!(hit("*.masks"), Ok(false));
        assert!(hit("***").is_err());
    }

    #[test]
    fn a_case_is_found_by_its_old_name() {
        let names = ["watchpoints.fires", "watchpoints.after_a_breakpoint"];
        assert_eq!(places("watchpoints.behind_a_breakpoint", names.into_iter()), Ok(vec![1]));
    }

    #[test]
    fn a_pattern_that_names_nothing_is_an_error() {
        let places = |pattern: &str| places(pattern, ["s.a", "s.b", "t.a"].into_iter());
        assert_eq!(places("*.a"), Ok(vec![0, 2]));
        assert_eq!(places("u"), Err("no case matches \"u\"; `dfr0 list` prints all".into()));
    }
}

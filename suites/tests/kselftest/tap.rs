// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! TAP as these tests read it: results with their names and directives.

use libtest_mimic::Failed;

use crate::shell::ensure;

/// A result line, without its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub name: String,
    pub ok: bool,
    /// SKIP, XFAIL or another word, or what was observed if it failed; empty if there is none.
    pub directive: String,
}

impl Line {
    pub fn passed(&self) -> bool {
        self.ok && self.directive.is_empty()
    }

    pub fn skipped(&self) -> bool {
        self.ok && self.directive.starts_with("SKIP")
    }

    fn parse(line: &str, number: usize) -> Option<Self> {
        let (ok, rest) = match line.strip_prefix("not ok ") {
            Some(rest) => (false, rest),
            None => (true, line.strip_prefix("ok ")?),
        };
        let rest = rest.strip_prefix(&format!("{number} "))?;
        let (name, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
        Some(Self { name: name.into(), ok, directive: directive.into() })
    }
}

/// The results of the outermost stream. Its plan and numbers must be right.
pub fn results(text: &str) -> Result<Vec<Line>, Failed> {
    let mut plan = None;
    let mut results = Vec::new();
    for line in text.lines() {
        if let Some(tests) = line.strip_prefix("1..") {
            plan = tests.parse::<usize>().ok();
        } else if line.starts_with("ok ") || line.starts_with("not ok ") {
            let result = Line::parse(line, results.len() + 1);
            results.push(result.ok_or_else(|| format!("result {} is `{line}`", results.len() + 1))?);
        }
    }
    ensure(plan == Some(results.len()), "the number of results differs from the plan", text)?;
    Ok(results)
}

/// The results in these tests' own streams, which kselftest's runner prints with `# ` before each line.
pub fn nested(text: &str, tests: &[String]) -> Result<Vec<Line>, Failed> {
    let mut all = Vec::new();
    for part in text.split("# selftests: ").skip(1) {
        let (heading, output) = part.split_once('\n').unwrap_or((part, ""));
        let test = heading.rsplit(": ").next().unwrap_or_default();
        if tests.iter().any(|name| name == test) {
            let own: String = output
                .lines()
                .filter_map(|line| line.strip_prefix("# "))
                .map(|line| format!("{line}\n"))
                .collect();
            all.extend(results(&own)?);
        }
    }
    Ok(all)
}

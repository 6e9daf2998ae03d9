// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! docs/defects.md: each defect, and which case sees it.

use std::collections::BTreeSet;

use super::list::Defect;
use super::verdict::{Seen, Verdict};

/// The number of cases that are named for a defect.
const NAMED: usize = 2;

/// What is said of a defect that was not run, and of upstream's tests.
const NOT_RUN: &str = "not run";
/// What is said of one that survives: without a reason, and before the reason.
const NOTHING: &str = "**nothing**";
const NOBODY: &str = "nobody: ";
/// What is said of upstream's tests if all passed.
const PASSED: &str = "–";
/// What is before and after the sources.
const SOURCE: (&str, &str) = ("Source: ", ".");

/// What a row says of a defect that was run.
struct Row {
    host: String,
    by: String,
    upstream: String,
}

impl Row {
    fn new(defect: &Defect, verdict: &Verdict) -> Self {
        let by = if verdict.dfr0.something() { seen(&verdict.dfr0) } else { survives(defect) };
        let failed = verdict.upstream.iter().filter(|(_, failed)| **failed).map(|(test, _)| test.as_str());
        let upstream = match failed.collect::<Vec<_>>() {
            _ if verdict.upstream.is_empty() => NOT_RUN.into(),
            none if none.is_empty() => PASSED.into(),
            failed => failed.join(", "),
        };
        Self { host: verdict.host.clone(), by, upstream }
    }

    /// That of an older page, if it is of this defect as it is now and was run.
    fn of_page(page: &str, defect: &Defect) -> Option<Self> {
        let start = format!("| {} | ", name(defect));
        let row = page.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix(" |"))?;
        let [_, host, by, upstream] = row.split(" | ").collect::<Vec<_>>()[..] else { return None };
        let text = |cell: &str| cell.replace("\\|", "|");
        let mut row = Self { host: text(host), by: text(by), upstream: text(upstream) };
        if !row.is_seen() {
            row.by = survives(defect);
        }
        (by != NOT_RUN).then_some(row)
    }

    fn is_seen(&self) -> bool {
        !self.is_gap() && !self.by.starts_with(NOBODY)
    }

    fn is_gap(&self) -> bool {
        self.by == NOTHING
    }

    fn upstream_ran(&self) -> bool {
        self.upstream != NOT_RUN
    }

    fn upstream_failed(&self) -> bool {
        self.upstream_ran() && self.upstream != PASSED
    }
}

/// What is said of a defect that survives.
fn survives(defect: &Defect) -> String {
    defect.survives.as_ref().map_or_else(|| NOTHING.into(), |reason| format!("{NOBODY}{reason}"))
}

/// A defect's name, and what tells it from a later one of this name.
fn name(defect: &Defect) -> String {
    let digest = defect.digest().unwrap_or_default();
    format!("{} <!-- {} -->", defect.name, digest.get(..8).unwrap_or_default())
}

/// The page of these defects. What it says of one without a verdict stays, if the defect is the same.
pub fn table(defects: &[(&Defect, Option<&Verdict>)], before: &str) -> String {
    let rows: Vec<(&Defect, Option<Row>)> = defects
        .iter()
        .map(|(defect, verdict)| {
            let new = verdict.map(|verdict| Row::new(defect, verdict));
            (*defect, new.or_else(|| Row::of_page(before, defect)))
        })
        .collect();
    let count = |which: fn(&Row) -> bool| {
        rows.iter().filter_map(|(_, row)| row.as_ref()).filter(|row| which(row)).count()
    };
    let only: Vec<&str> = rows
        .iter()
        .filter(|(_, row)| row.as_ref().is_some_and(|row| !row.is_seen() && row.upstream_failed()))
        .map(|(defect, _)| defect.name.as_str())
        .collect();
    let kept = rows.iter().zip(defects).any(|((_, row), (_, verdict))| row.is_some() && verdict.is_none());
    let old = before.lines().find_map(|line| line.strip_prefix(SOURCE.0)?.strip_suffix(SOURCE.1));
    let old = old.filter(|_| kept).into_iter().flat_map(|sources| sources.split("; "));
    let new = defects.iter().filter_map(|(_, verdict)| Some(verdict.as_ref()?.source.as_str()));
    let sources: Vec<&str> = old.chain(new).collect::<BTreeSet<_>>().into_iter().collect();
    let mut page = String::from(HEAD);
    let mut line = |text: String| {
        page += &text;
        page.push('\n');
    };
    line(format!("{}{}{}\n", SOURCE.0, sources.join("; "), SOURCE.1));
    line(format!("- {} defects, {} of them run", rows.len(), count(|_| true)));
    line(format!(
        "- seen by dfr0: {}; not to be seen, for the reason given: {}; gaps: {}",
        count(Row::is_seen),
        count(|row| !row.is_seen() && !row.is_gap()),
        count(Row::is_gap)
    ));
    let beside = count(Row::upstream_ran);
    line(format!(
        "- upstream's own tests were run on {beside} of them, and {} made one fail",
        count(Row::upstream_failed)
    ));
    let only = match &only[..] {
        _ if beside == 0 => "not known".into(),
        [] => "none".into(),
        only => only.join(", "),
    };
    line(format!("- seen by upstream's tests and not by dfr0: {only}\n"));
    line("| defect | what is broken | host | seen by | upstream's |\n|---|---|---|---|---|".into());
    for (defect, row) in rows {
        let real = defect.real.as_ref().map_or_else(String::new, |real| format!(" ({real})"));
        let broken = format!("{}{real}", defect.breaks);
        let not_run = || Row { host: String::new(), by: NOT_RUN.into(), upstream: String::new() };
        let Row { host, by, upstream } = row.unwrap_or_else(not_run);
        let cells = [name(defect), broken, host, by, upstream].map(|cell| cell.replace('|', "\\|"));
        line(format!("| {} |", cells.join(" | ")));
    }
    page
}

fn seen(seen: &Seen) -> String {
    let named = seen.failed.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = seen.failed.len().saturating_sub(NAMED);
    let cases = if more == 0 { named } else { format!("{named} and {more} more") };
    match &seen.died {
        None => cases,
        Some(why) if cases.is_empty() => format!("the run: {why}"),
        Some(why) => format!("{cases}; {why}"),
    }
}

/// What the page begins with.
const HEAD: &str = "\
<!-- SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 -->

# What dfr0 finds

`make defects` wrote this page: each row is Linux with one change of its KVM/arm64 that makes it wrong (lab/kernels/defects.toml), built,
booted on an emulated CPU, and tested by those suites that can see the change. For a defect `cases` in lab/kernels/defects.toml
selects them, so more cases may see it than are counted here; if they see nothing, a sample of every case runs. Upstream's tests
are those of tools/testing/selftests/kvm that test debug and ID registers, from the same source. One that does not pass on the
source as it is, is not run.

";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn defect(name: &str, survives: Option<&str>) -> Defect {
        Defect {
            name: name.into(),
            breaks: "a|b".into(),
            file: "f".into(),
            find: "x".into(),
            replace: "y".into(),
            cases: vec!["os_lock".into()],
            host: None,
            real: None,
            survives: survives.map(ToOwned::to_owned),
        }
    }

    fn verdict(failed: &[&str], upstream: &[(&str, bool)]) -> Verdict {
        Verdict {
            key: String::new(),
            digest: None,
            source: "Linux".into(),
            host: "h".into(),
            dfr0: Seen { failed: failed.iter().map(|&name| name.into()).collect(), died: None },
            upstream_key: None,
            upstream: upstream
                .iter()
                .map(|(name, failed)| ((*name).into(), *failed))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn each_defect_has_a_row_and_the_sums_are_right() {
        let defects = ["seen", "gap", "legal", "unrun", "upstreams"]
            .map(|name| defect(name, (name == "legal").then_some("it is legal")));
        let verdicts = [
            verdict(&["a.a", "a.b", "a.c"], &[("t", false)]),
            verdict(&[], &[("t", false)]),
            verdict(&[], &[]),
            verdict(&[], &[("t", true)]),
        ];
        let rows = [Some(&verdicts[0]), Some(&verdicts[1]), Some(&verdicts[2]), None, Some(&verdicts[3])];
        assert!(
            table(&[(&defects[0], None)], "").contains("seen by upstream's tests and not by dfr0: not known")
        );
        let page = table(&defects.iter().zip(rows).collect::<Vec<_>>(), "");
        let without_digests = page.replace(name(&defects[0]).trim_start_matches("seen"), "");
        for line in [
            "- 5 defects, 4 of them run",
            "- seen by dfr0: 1; not to be seen, for the reason given: 1; gaps: 2",
            "- upstream's own tests were run on 3 of them, and 1 made one fail",
            "- seen by upstream's tests and not by dfr0: upstreams",
            "| seen | a\\|b | h | a.a, a.b and 1 more | – |",
            "| gap | a\\|b | h | **nothing** | – |",
            "| legal | a\\|b | h | nobody: it is legal | not run |",
            "| unrun | a\\|b |  | not run |  |",
        ] {
            assert!(without_digests.lines().any(|found| found == line), "{line}\n{page}");
        }
        // What is known of the others stays when one of them is run again, unless it was changed.
        assert_eq!(table(&defects.iter().map(|defect| (defect, None)).collect::<Vec<_>>(), &page), page);
        let again = verdict(&["z"], &[]);
        let mut changed = defects.clone();
        changed[1].replace = "z".into();
        changed[2].survives = Some("it is allowed".into());
        let all = changed.iter().map(|defect| (defect, (defect.name == "upstreams").then_some(&again)));
        let page = table(&all.collect::<Vec<_>>(), &page);
        assert!(page.contains("nobody: it is allowed"), "{page}");
        assert!(page.contains("- 5 defects, 3 of them run\n- seen by dfr0: 2; not to be seen, for the reason given: 1; gaps: 0\n"), "{page}");
    }
}

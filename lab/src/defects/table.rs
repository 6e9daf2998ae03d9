// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! docs/defects.md: each defect, and which case sees it.

use super::list::Defect;
use super::verdict::{Seen, Verdict};

/// The number of cases that are named for a defect.
const NAMED: usize = 2;

/// The page of these defects; `None` for one that was not run.
pub fn table(defects: &[(&Defect, Option<&Verdict>)]) -> String {
    let ran: Vec<_> = defects.iter().filter_map(|(defect, verdict)| Some((*defect, (*verdict)?))).collect();
    let killed = ran.iter().filter(|(_, verdict)| verdict.dfr0.something()).count();
    let legal =
        ran.iter().filter(|(defect, verdict)| !verdict.dfr0.something() && defect.survives.is_some()).count();
    let gaps = ran.iter().filter(|(defect, verdict)| verdict.is_gap(defect)).count();
    let beside: Vec<_> = ran.iter().filter(|(_, verdict)| !verdict.upstream.is_empty()).collect();
    let upstreams =
        beside.iter().filter(|(_, verdict)| verdict.upstream.values().any(|failed| *failed)).count();
    let only: Vec<_> = ran
        .iter()
        .filter(|(_, verdict)| verdict.only_upstream())
        .map(|(defect, _)| defect.name.as_str())
        .collect();
    let mut page = String::from(HEAD);
    let mut sources: Vec<_> = ran.iter().map(|(_, verdict)| verdict.source.as_str()).collect();
    sources.sort_unstable();
    sources.dedup();
    let mut line = |text: String| {
        page += &text;
        page.push('\n');
    };
    line(format!("Source: {}.\n", sources.join("; ")));
    line(format!("- {} defects, {} of them run", defects.len(), ran.len()));
    line(format!("- seen by dfr0: {killed}; not to be seen, for the reason given: {legal}; gaps: {gaps}"));
    line(format!(
        "- upstream's own tests were run on {} of them, and {upstreams} made one fail",
        beside.len()
    ));
    let only = match &only[..] {
        _ if beside.is_empty() => "not known".into(),
        [] => "none".into(),
        only => only.join(", "),
    };
    line(format!("- seen by upstream's tests and not by dfr0: {only}\n"));
    line("| defect | what is broken | host | seen by | upstream's |\n|---|---|---|---|---|".into());
    for (defect, verdict) in defects {
        let upstream = match verdict.map(|verdict| &verdict.upstream) {
            None => String::new(),
            Some(tests) if tests.is_empty() => "not run".into(),
            Some(tests) => {
                let failed: Vec<_> =
                    tests.iter().filter(|(_, failed)| **failed).map(|(test, _)| test.as_str()).collect();
                if failed.is_empty() { "–".into() } else { failed.join(", ") }
            }
        };
        let by = match verdict {
            None => "not run".into(),
            Some(verdict) if verdict.dfr0.something() => seen(&verdict.dfr0),
            Some(_) => match &defect.survives {
                Some(reason) => format!("nobody: {reason}"),
                None => "**nothing**".into(),
            },
        };
        let real = defect.real.as_ref().map_or_else(String::new, |real| format!(" ({real})"));
        let broken = format!("{}{real}", defect.breaks);
        let host = verdict.map_or("", |verdict| verdict.host.as_str());
        let cells =
            [defect.name.as_str(), &broken, host, &by, &upstream].map(|cell| cell.replace('|', "\\|"));
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
            table(&[(&defects[0], None)]).contains("seen by upstream's tests and not by dfr0: not known")
        );
        let page = table(&defects.iter().zip(rows).collect::<Vec<_>>());
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
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}

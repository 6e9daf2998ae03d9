// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Explains what a case tests: its rules, its scenarios and its known deviations. Nothing runs.

use crate::{
    case::{Case, LISTED, Report, Session, varied},
    expected::Deviations,
    host::Host,
    paper,
    results::listing,
};
use dfr0_model::{
    outcome::Expected,
    scenario::{Op, Scenario},
    shape::Shape,
};
use std::fmt;

/// ID_AA64DFR0_EL1 of imagined hosts, where a case that lists no scenarios here is asked for them: a CPU
/// without the OS Double Lock, and one with it.
const IMAGINED: [u64; 2] = [0xf0_1030_5009, 0x1030_5008];

/// The explanation of cases.
#[derive(Debug)]
pub struct Explanation<'a> {
    /// The cases to explain.
    pub chosen: &'a [Case],
    /// All cases, some of which others run in variations.
    pub all: &'a [Case],
    /// The known deviations.
    pub deviations: &'a Deviations,
    /// This host, or why no guest runs here.
    pub here: Result<&'a Host, &'a str>,
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.here {
            Ok(host) => write!(f, "this host:\n{}", indented(&host.to_string(), 2))?,
            Err(why) => {
                writeln!(f, "this host: no guest runs here, so it is not said which deviations apply: {why}")?
            }
        }
        self.chosen.iter().try_for_each(|case| self.case(f, case))
    }
}

impl Explanation<'_> {
    fn case(&self, f: &mut fmt::Formatter<'_>, case: &Case) -> fmt::Result {
        writeln!(f, "\n{}", case.name)?;
        writeln!(f, "  rule: {}: {}\n  section: {}", case.rule.name, case.rule.says, case.rule.section)?;
        case.also.iter().try_for_each(|rule| writeln!(f, "  also: {rule}"))?;
        case.why_it_stays().iter().try_for_each(|why| writeln!(f, "  its vCPU does not move: {why}"))?;
        self.scenarios(f, case)?;
        let mut known = self.deviations.of(&case.name).peekable();
        if known.peek().is_none() {
            writeln!(f, "  known deviations: none")?;
        }
        for deviation in known {
            write!(f, "  known deviation {} of {}", deviation.name, deviation.whose())?;
            match varied(&case.name) {
                Some(varied) if !deviation.cases.contains(&case.name) => {
                    writeln!(f, ", which is forgiven in {varied} and so in this case")?;
                }
                _ => writeln!(f)?,
            }
            deviation.observed.iter().try_for_each(|observed| writeln!(f, "    observed: {observed}"))?;
            writeln!(f, "    why: {}\n    source: {}", deviation.why, deviation.source)?;
            writeln!(f, "    seen: {}", deviation.condition)?;
            if let Ok(host) = self.here {
                match deviation.condition.fails_on(host) {
                    None => writeln!(f, "    here: it applies")?,
                    Some(why) => writeln!(f, "    here: it does not apply: {why}")?,
                }
            }
        }
        Ok(())
    }

    /// Prints the first of its scenarios, as a failed case lists them.
    fn scenarios(&self, f: &mut fmt::Formatter<'_>, case: &Case) -> fmt::Result {
        let ((mut host, mut report), mut of) = (self.ask(case), "");
        if report.listed.is_empty()
            && let Some(varied) =
                varied(&case.name).and_then(|name| self.all.iter().find(|case| case.name == name))
        {
            ((host, report), of) = (self.ask(varied), varied.name.as_str());
        }
        let Report { listed, stopped, .. } = report;
        if listed.is_empty() {
            return match stopped {
                Some(stop) => writeln!(f, "  scenarios: none can be listed: {stop}"),
                None => writeln!(f, "  scenarios: none; it asks for values and runs nothing"),
            };
        }
        // A case may do the same for each of the host's registers.
        let shown = if listed.len() > 1 && listed[0] == listed[1] { 1 } else { listed.len().min(LISTED - 1) };
        let count = match (shown, listed.len()) {
            (1, 1) => "the only one".into(),
            (1, _) => "the first of more".into(),
            (_, LISTED) => format!("the first {shown} of more"),
            _ => format!("all {shown}"),
        };
        let of = if of.is_empty() {
            String::new()
        } else {
            format!("those of {of}, varied by what KVM answers; ")
        };
        writeln!(f, "  scenarios: {of}{count}")?;
        for (shape, scenario) in &listed[..shown] {
            writeln!(f, "    in a VM of {shape}:")?;
            f.write_str(&indented(&listing(&with_outcomes(&host, *shape, scenario)), 4))?;
        }
        Ok(())
    }

    /// The scenarios that the case would run here or, if there are none, on an imagined host; and why there
    /// are no more.
    fn ask(&self, case: &Case) -> (Host, Report) {
        let run = |host: Host| (host.clone(), case.run(&mut Session::on_paper(host)));
        let first = run(self.here.ok().cloned().unwrap_or_else(|| Host::imagined(IMAGINED[0])));
        let has_some = |(_, report): &(Host, Report)| !report.listed.is_empty();
        if has_some(&first) {
            return first;
        }
        IMAGINED.map(Host::imagined).into_iter().map(run).find(has_some).unwrap_or(first)
    }
}

/// Each operation, with what it may cause if that is not nothing, and with what the case claims.
fn with_outcomes(host: &Host, shape: Shape, scenario: &Scenario) -> Vec<String> {
    let Ok(outcomes) = paper::outcomes(host, shape, scenario) else {
        return scenario.ops().iter().map(ToString::to_string).collect();
    };
    let explained = scenario.ops().iter().zip(outcomes).enumerate().map(|(place, (op, outcome))| {
        let ways: Vec<String> = outcome.alternatives().map(|events| way(*op, events)).collect();
        let claims: Vec<String> = scenario.claims_at(place).map(|claim| claim.to_string()).collect();
        let mut text = op.to_string();
        if claims.is_empty() && ways.iter().all(String::is_empty) {
            return text;
        }
        for (number, way) in ways.iter().enumerate() {
            let allowed = if number == 0 { "allowed:" } else { "or:     " };
            text.push_str(&format!("\n        {allowed} {}", or_nothing(way)));
        }
        if !claims.is_empty() {
            text.push_str(&format!("\n        claimed: {}", claims.join(", ")));
        }
        text
    });
    explained.collect()
}

/// One way in which an operation may go; empty if nothing happens, as is usual.
fn way(op: Op, events: &[Expected]) -> String {
    let answers = matches!(op, Op::KvmSet { reg, .. } | Op::KvmTry { reg, .. } if reg.is_id_register());
    match events {
        [] if answers => "accepted".into(),
        events => events.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn or_nothing(way: &str) -> &str {
    if way.is_empty() { "nothing" } else { way }
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{case::Stop, guest::Config};
    use dfr0_model::{dfr0, rule, scenario::Scenario, sysreg::ID_AA64DFR0_EL1};

    fn explained(cases: &[Case], here: Result<&Host, &str>) -> String {
        Explanation { chosen: &cases[..1], all: cases, deviations: &Deviations::none(), here }.to_string()
    }

    fn case(name: &str, test: fn(&mut crate::case::Context<'_>) -> Result<(), Stop>) -> Case {
        Case::new(name, &rule::BREAKPOINT_MATCHES, test).and(&[&rule::MDE])
    }

    #[test]
    fn a_case_lists_its_first_scenarios_and_runs_none() {
        let cases = [case("s.a", |cx| {
            cx.check(&Scenario::new().brk())?;
            let guest = &mut cx.new_guest()?;
            cx.check_on(guest, &Scenario::new().isb())?;
            cx.check_each(std::iter::repeat(Scenario::new().isb()))
        })];
        let text = explained(&cases, Err("no KVM"));
        assert!(text.starts_with(
            "this host: no guest runs here, so it is not said which deviations apply: no KVM\n\ns.a\n  rule: BREAKPOINT_MATCHES: An enabled"
        ));
        assert!(text.contains(&format!(
            "\n  section: {}\n  also: {}\n",
            rule::BREAKPOINT_MATCHES.section,
            rule::MDE
        )));
        assert!(text.contains("  scenarios: the first 2 of more\n    in a VM of 6 breakpoints"), "{text}");
        assert!(
            text.contains("       0  isb\n       1  exec brk\n            allowed: BRK exception: EC 0x3c"),
            "{text}"
        );
        assert!(text.ends_with("       0  isb\n  known deviations: none\n"), "{text}");
    }

    #[test]
    fn a_scenario_that_is_repeated_is_shown_once() {
        let cases = [case("s.a", |cx| cx.check_each(std::iter::repeat(Scenario::new().isb())))];
        let text = explained(&cases, Err("no KVM"));
        assert!(
            text.contains("  scenarios: the first of more\n") && text.matches("in a VM of").count() == 1,
            "{text}"
        );
    }

    #[test]
    fn a_case_that_does_not_apply_here_is_asked_on_an_imagined_host() {
        let cases = [case("s.a", |cx| {
            if !cx.shape().double_lock {
                return Stop::skip("FEAT_DoubleLock is not implemented");
            }
            cx.check(&Scenario::new().isb())
        })];
        let without = Host::imagined(dfr0::BRPS.with(IMAGINED[0], 15));
        let text = explained(&cases, Ok(&without));
        assert!(text.contains("  scenarios: the only one\n    in a VM of 6 breakpoints"), "{text}");
        assert!(text.contains("this host:\n  kernel: Linux"), "{text}");
    }

    #[test]
    fn a_case_that_depends_on_a_guest_says_so_and_a_variation_lists_what_it_varies() {
        let asks = |cx: &mut crate::case::Context<'_>| {
            cx.new_guest()?.get(ID_AA64DFR0_EL1)?;
            cx.check(&Scenario::new().isb())
        };
        let text = explained(&[case("s.a", asks)], Err("no KVM"));
        let none = "  scenarios: none can be listed: what it does depends on the answers of KVM and a guest, and nothing runs\n";
        assert!(text.contains(none), "{text}");
        let cases = [case("v.s.a", asks), case("s.a", |cx| cx.check(&Scenario::new().brk()))];
        let text = explained(&cases, Err("no KVM"));
        assert!(
            text.contains("  scenarios: those of s.a, varied by what KVM answers; the only one\n"),
            "{text}"
        );
        let text = explained(&[case("s.a", |_| Ok(()))], Err("no KVM"));
        assert!(text.contains("  scenarios: none; it asks for values and runs nothing\n"), "{text}");
    }

    #[test]
    fn nothing_runs_on_paper_whatever_a_case_tries() {
        let cases = [case("s.a", |cx| {
            let guest = cx.new_guest_of(Config::default())?;
            guest.set(ID_AA64DFR0_EL1, 0)?;
            Ok(())
        })];
        assert!(matches!(
            cases[0].run(&mut Session::on_paper(Host::imagined(0))).stopped,
            Some(Stop::Skip(_))
        ));
    }
}

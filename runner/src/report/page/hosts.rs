// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! What each host is, and how it was run.

use super::{Report, anchor, summary::day};
use crate::{
    report::{Cell, Reported},
    results::{Run, Totals},
};
use maud::{Markup, html};

pub fn hosts(report: &Report<'_>) -> Markup {
    html! { div.hosts { @for cell in report.cells { (host(cell)) } } }
}

fn host(cell: &Cell) -> Markup {
    let name = cell.name();
    html! {
        article.host id=(anchor("host", &name)) {
            @match &cell.reported {
                Reported::Run(run) | Reported::Part(run, _) => {
                    h3 { (name) @if run.begin.lab_host.is_some() { " " span.badge { "emulated" } } }
                    @if let Some(why) = cell.silence() { p.fail { bdi { (why) } } }
                    (facts(run))
                }
                Reported::Unavailable(unavailable) => { h3 { (name) } p { "skipped: " bdi { (unavailable.reason) } } }
                Reported::Nothing(why) => { h3 { (name) } p.fail { "did not report: " bdi { (why) } } }
            }
            @if let Some(log) = &cell.log {
                details { summary { "The end of the kernel's log" } pre { bdi { (log) } } }
            }
        }
    }
}

fn facts(run: &Run) -> Markup {
    let host = &run.begin.host;
    let Totals { pass, fail, xfail, xpass, skip } = run.end.totals;
    let milliseconds = run.cases.iter().map(|case| case.milliseconds).fold(0, u64::saturating_add);
    let drawn = match run.begin.thorough_minutes {
        Some(minutes) => format!("{minutes} minutes per case"),
        None => format!("{} per case", run.begin.draws),
    };
    let begun = day(run.begin.started).unwrap_or_else(|| run.begin.started.to_string());
    let known = |fact: &Option<String>| fact.clone().unwrap_or_default();
    let facts = [
        (
            "kernel",
            host.kernel.as_ref().map_or("none, a bare CPU".into(), |release| format!("Linux {release}")),
        ),
        ("kernel's version", known(&host.build.version)),
        ("kernel's image, SHA-256", known(&host.build.sha256)),
        ("kernel's source", known(&host.build.source)),
        ("platform", host.platform.clone()),
        ("CPU", host.cpu()),
        ("CPUs", run.begin.cpus.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("shape", host.shape().to_string()),
        ("ID_AA64DFR0_EL1", format!("{:#018x}", host.id_aa64dfr0)),
        ("writable fields", host.writable_fields()),
        ("LSE atomics", if host.lse { "yes" } else { "no" }.into()),
        ("results", format!("{pass} pass, {fail} fail, {xfail} xfail, {xpass} xpass, {skip} skip")),
        ("run", format!("{begun}, {} s of cases, by dfr0 {}", milliseconds / 1000, run.begin.dfr0)),
        ("command", run.begin.command.join(" ")),
        ("random scenarios", format!("{drawn}, seed {}", run.begin.seed)),
    ];
    html! {
        dl { @for (name, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) { div { dt { (name) } dd { bdi { (value) } } } } }
        @if !host.is_bare() {
            details {
                summary { "KVM's capabilities" }
                dl {
                    @for (name, value) in host.capabilities.all() { div { dt { (name) } dd { (format!("{value:#x}")) } } }
                }
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! docs/coverage.md: each rule of the model and the cases that test it, generated from the cases.

use crate::ALL;
use dfr0_model::{dfr0::FIELDS, rule};
use dfr0_runner::case::Suite;
use std::{collections::BTreeMap, fmt::Write, io::Write as _};

/// The page at compile time, because a lab host that runs the tests does not have docs/.
const PAGE: &str = include_str!("../docs/coverage.md");

const INTRO: &str = "\
<!-- SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 -->
<!-- Written by `make coverage`. -->
# Rules and the cases that test them

Each rule of the model (`model/src/oracle/rule.rs`), its document and section, and the cases that test it, with the
names that `dfr0 list` prints. `id_regs.*` is one case per field of ID_AA64DFR0_EL1. The cases that `shapes`
and `migration` run again, in other shapes and while the vCPU moves, are not listed again.
`dfr0 list --rules` prints the rules of each case.

| rule | text | section | cases |
|---|---|---|---|
";

/// The page, or the reasons why it cannot be written: a rule without a case, or a case without a rule.
fn page(suites: &[Suite]) -> Result<String, String> {
    let mut cases: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut missing = String::new();
    let all: Vec<_> = suites.iter().flat_map(|suite| suite.cases()).collect();
    let is_again =
        |name: &str| name.split_once('.').is_some_and(|(_, name)| all.iter().any(|case| case.name == name));
    for case in all.iter().filter(|case| !is_again(&case.name)) {
        for tested in case.rules() {
            match rule::ALL.contains(&tested) {
                true => cases.entry(tested.name).or_default().push(case.name.clone()),
                false => {
                    _ = writeln!(missing, "{} tests a rule that is not in rule::ALL: {tested}", case.name)
                }
            }
        }
    }
    let mut page = INTRO.to_string();
    for rule in rule::ALL {
        let Some(cases) = cases.remove(rule.name) else {
            _ = writeln!(missing, "no case tests {rule}");
            continue;
        };
        let cases: Vec<String> = folded(cases).iter().map(|case| format!("`{case}`")).collect();
        let (says, section) = (escaped(rule.says), escaped(rule.section));
        _ = writeln!(page, "| {} | {says} | {section} | {} |", rule.name, cases.join("<br>"));
    }
    if missing.is_empty() { Ok(page) } else { Err(missing) }
}

/// The names in their order. If all fields have an `id_regs` case of the same name, these cases become one
/// name with `*` for the field.
fn folded(names: Vec<String>) -> Vec<String> {
    let general = |name: &str| {
        FIELDS.iter().find_map(|field| {
            let check = name.strip_prefix("id_regs.")?.strip_prefix(field.slug)?.strip_prefix('.')?;
            Some(format!("id_regs.*.{check}"))
        })
    };
    let mut folded: Vec<String> = Vec::new();
    for name in &names {
        let of_all = general(name).filter(|all| {
            names.iter().filter(|name| general(name).as_ref() == Some(all)).count() == FIELDS.len()
        });
        let shown = of_all.unwrap_or_else(|| name.clone());
        if !folded.contains(&shown) {
            folded.push(shown);
        }
    }
    folded
}

/// Escapes text so that Markdown prints it unchanged in a table.
fn escaped(text: &str) -> String {
    text.replace('<', "&lt;").replace('|', "\\|").replace('*', "\\*")
}

/// Writes docs/coverage.md completely or not at all.
fn write(page: &str) -> std::io::Result<()> {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(docs)?;
    file.write_all(page.as_bytes())?;
    file.persist(format!("{docs}/coverage.md"))?;
    Ok(())
}

#[test]
fn the_coverage_page_lists_every_rule_with_the_cases_that_test_it() {
    let page = page(&ALL).unwrap_or_else(|missing| panic!("{missing}"));
    if std::env::var_os("DFR0_BLESS").is_some_and(|bless| bless == "1") {
        return write(&page).expect("docs/coverage.md can be written");
    }
    let place = page.lines().zip(PAGE.lines()).take_while(|(new, old)| new == old).count();
    assert!(
        page == PAGE,
        "docs/coverage.md differs from the cases, first in line {}; `make coverage` rewrites it (or DFR0_BLESS=1 \
         cargo test -p dfr0-suites --lib coverage)\n  page:  {}\n  cases: {}",
        place + 1,
        PAGE.lines().nth(place).unwrap_or("(no line)"),
        page.lines().nth(place).unwrap_or("(no line)"),
    );
}

#[test]
fn a_rule_without_a_case_and_a_case_without_a_rule_are_named() {
    const UNLISTED: rule::Rule = rule::Rule { name: "UNLISTED", says: "Nothing", section: "nowhere" };
    fn cases() -> Vec<dfr0_runner::case::Case> {
        vec![dfr0_runner::case::Case::new("case", &UNLISTED, |_| Ok(()))]
    }
    let missing = page(&[Suite::new("odd", cases)]).expect_err("nothing is covered");
    assert!(
        missing.contains("odd.case tests a rule that is not in rule::ALL: UNLISTED: Nothing (nowhere)\n"),
        "{missing}"
    );
    for rule in rule::ALL {
        assert!(missing.contains(&format!("no case tests {rule}\n")), "{rule}");
    }
}

#[test]
fn a_case_that_some_fields_do_not_have_is_not_folded() {
    let names = |fields: &[&dfr0_model::dfr0::Field]| -> Vec<String> {
        fields.iter().map(|field| format!("id_regs.{}.mask", field.slug)).collect()
    };
    assert_eq!(folded(names(&FIELDS)), ["id_regs.*.mask"]);
    assert_eq!(folded(names(&FIELDS[1..])), names(&FIELDS[1..]));
}

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! dfr0 in kernel trees: it is built, installed and run as kselftest does it, and programs that read TAP read its output.
//!
//! `make test-kselftest` runs this with DFR0_LAB and DFR0_BUNDLE set.

mod consumers;
mod host;
mod shell;
mod tap;
mod tree;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::host::Host;
use crate::shell::{Programs, make};
use crate::tree::{Build, Tree};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let mut trials = vec![
        Trial::test("tree.newest", || beside_upstreams("newest", Programs::Ready, "--every 16")),
        Trial::test("tree.trixie", || beside_upstreams("trixie", Programs::Ready, "--every 16")),
        Trial::test("tree.with_cargo", || beside_upstreams("newest", Programs::Cargo, "")),
        Trial::test("tree.among_kvms.newest", || among_kvms("newest")),
        Trial::test("tree.among_kvms.trixie", || among_kvms("trixie")),
        Trial::test("tree.own_target", own_target),
        Trial::test("tree.patch", the_patch_is_what_install_does),
        Trial::test("tree.refused", what_is_refused),
        Trial::test("host.native", natively),
    ];
    trials.extend(consumers::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Two of upstream's own tests, which must still work.
const UPSTREAMS: [&str; 2] = ["psci_test", "hypercalls"];

/// TARGETS=kvm in a kernel tree: dfr0 is installed, built with upstream's tests, run in a lab host with these arguments, and
/// removed.
fn beside_upstreams(kernel: &str, programs: Programs, arguments: &str) -> Result<(), Failed> {
    let tree = Tree::unpack(kernel)?;
    let before = tree.status()?;
    tree.in_tree("install")?;

    make(&["headers"]).build(&tree, Build::Cross).run()?;
    let mut install =
        make(&["install"]).target("kvm", &tree).build(&tree, Build::Cross).programs(&programs, &tree)?;
    // All of them take a minute, and are compiled where cargo takes longer.
    if matches!(programs, Programs::Ready) {
        let arch = tree.kvms_directory();
        let two = UPSTREAMS.map(|test| format!("{arch}/{test}")).join(" ");
        install = install
            .set(&format!("TEST_GEN_PROGS_{arch}"), &two)
            .set(&format!("TEST_GEN_PROGS_EXTENDED_{arch}"), "");
    }
    install.run()?;
    let tests = tree::suites();
    let built = tree.built("kvm", &tests)?;
    install.run()?;
    if tree.built("kvm", &tests)? != built {
        return Err("programs that were up to date were built again".into());
    }
    let listed = tree.listed("kvm")?;
    for test in tests.iter().map(String::as_str).chain(UPSTREAMS) {
        let count = listed.iter().filter(|&name| name == test).count();
        shell::ensure(count == 1, &format!("{test} is listed {count} times"), &listed.join("\n"))?;
    }

    // kselftest's runner runs all of dfr0's tests and two of upstream's, and `dfr0 run` runs the same cases.
    let chosen: Vec<&str> = tests.iter().map(String::as_str).chain(UPSTREAMS).collect();
    tree.list("kvm", &chosen)?;
    let mut host = Host::new(kernel)?;
    host.copy(&tree.installed(), "kselftest")?;
    host.keep_in("kselftest/kvm", &[&chosen[..], &["dfr0"]].concat())?;
    host.copy_program("dfr0")?;
    let arguments = format!("--draws 40 --seed 7 {arguments}");
    let set = |test: &String| format!("KSELFTEST_{}_ARGS='{arguments}' ", test.to_uppercase());
    let set: String = tests.iter().map(set).collect();
    let nested = host.run(&format!("cd kselftest; {set} ./run_kselftest.sh -c kvm"))?;
    let outer = tap::results(&nested)?;
    for (test, result) in chosen.iter().zip(&outer) {
        let name = format!("selftests: kvm: {test}");
        // The host may be unable to run any case of a suite.
        let ours = tests.iter().filter(|name| name == test).cloned().collect::<Vec<_>>();
        let own = tap::nested(&nested, &ours)?;
        let skips = !own.is_empty() && own.iter().all(tap::Line::skipped);
        let expected = if skips { result.skipped() } else { result.passed() };
        shell::ensure(expected && result.name == name, &format!("{test} did not pass"), &nested)?;
    }
    shell::ensure(outer.len() == chosen.len(), "a test was lost", &nested)?;
    shell::ensure(nested.contains("timeout set to 120"), "settings are not read", &nested)?;
    // kselftest runs the tests in the order of their names, dfr0 in the order of its registry.
    let mut by_runner = tap::nested(&nested, &tests)?;
    let mut direct = tap::results(&host.run(&format!("./dfr0 run {arguments}"))?)?;
    by_runner.sort();
    direct.sort();
    if by_runner != direct {
        return Err(format!("kselftest's runner: {by_runner:#?}\ndirectly: {direct:#?}").into());
    }

    without_cargo(&tree, &install)?;
    make(&["clean"]).target("kvm", &tree).build(&tree, Build::Cross).run()?;
    shell::ensure(tree.built("kvm", &tests).is_err(), "clean leaves programs", "")?;
    tree.in_tree("remove")?;
    let after = tree.status()?;
    shell::ensure(before == after, "remove does not leave the tree as it was", &after)
}

/// Without a toolchain kvm's other tests are built, and a message says that dfr0's are not. FORCE_TARGETS makes this an
/// error.
fn without_cargo(tree: &Tree, install: &shell::Make) -> Result<(), Failed> {
    let bare = install.clone().without_toolchain()?;
    let said = bare.run()?;
    shell::ensure(said.contains("dfr0: not built: there is no cargo"), "no message about cargo", &said)?;
    let listed = tree.listed("kvm")?;
    let upstreams = listed.iter().any(|name| name == UPSTREAMS[0]);
    shell::ensure(upstreams, "upstream's tests are not listed", &listed.join("\n"))?;
    let ours = listed.iter().any(|name| name.starts_with("dfr0"));
    shell::ensure(!ours, "tests that were not built are listed", &listed.join("\n"))?;
    bare.set("FORCE_TARGETS", "1").fails("dfr0: not built: there is no cargo").map(drop)
}

/// The effect of the line in kvm's own Makefile. None of upstream's tests is compiled.
fn among_kvms(kernel: &str) -> Result<(), Failed> {
    let tree = Tree::unpack(kernel)?;
    let said = tree.in_tree("install")?;
    shell::ensure(said.contains("TARGETS=kvm includes dfr0"), "install does not say what it changed", &said)?;
    let again = tree.in_tree("install")?;
    let changed = again.contains("made") || again.contains("added");
    shell::ensure(!changed, "the second install changed the tree", &again)?;
    let tests = tree::suites();
    let kvm =
        |goal: &str| make(&["--silent", "--no-print-directory", goal]).of_kvm(&tree).set("ARCH", "arm64");
    let ours = |said: String| -> Vec<String> {
        let mut listed: Vec<_> = said
            .lines()
            .filter_map(|line| line.strip_prefix("kvm:dfr0_"))
            .map(|name| format!("dfr0_{name}"))
            .collect();
        listed.sort();
        listed
    };

    let said = kvm("all").dry().run()?;
    shell::ensure(said.contains("dfr0/build"), "`all` does not build dfr0's tests", &said)?;
    let said = kvm("emit_tests").run()?;
    shell::ensure(said.contains("kvm:"), "upstream's tests are not listed", &said)?;
    shell::ensure(ours(said.clone()).is_empty(), "tests that were not built are listed", &said)?;
    let programs = kvm("dfr0_programs").programs(&Programs::Ready, &tree)?;
    programs.run()?;
    let built = tree.built("kvm", &tests)?;
    programs.run()?;
    let again = tree.built("kvm", &tests)?;
    shell::ensure(again == built, "programs that were up to date were built again", "")?;
    let said = kvm("emit_tests").run()?;
    shell::ensure(ours(said.clone()) == tests, "not all tests are listed", &said)?;
    kvm("clean").run()?;
    shell::ensure(tree.built("kvm", &tests).is_err(), "clean leaves programs", "")?;

    programs.run()?;
    let bare = kvm("dfr0_programs").without_toolchain()?;
    let said = bare.run()?;
    shell::ensure(said.contains("dfr0: not built: there is no cargo"), "no message about cargo", &said)?;
    let said = kvm("emit_tests").run()?;
    shell::ensure(ours(said.clone()).is_empty(), "older programs are left", &said)?;
    bare.set("FORCE_TARGETS", "1").fails("dfr0: not built: there is no cargo")?;

    for arch in ["x86_64", "riscv", "s390"] {
        let all = make(&["all"]).of_kvm(&tree).set("ARCH", arch).dry().run()?;
        shell::ensure(!all.contains("dfr0/build"), &format!("dfr0 is built for ARCH={arch}"), &all)?;
    }
    Ok(())
}

/// TARGETS=dfr0 needs no change to the tree's own files.
fn own_target() -> Result<(), Failed> {
    let tree = Tree::unpack("newest")?;
    tree.in_tree("install")?;
    tree.git(&["checkout", "--quiet", "tools/testing/selftests/kvm"])?;
    tree.git(&["clean", "--quiet", "-fdx", "tools/testing/selftests/kvm"])?;
    let tests = tree::suites();
    let before = tree.status()?;

    for build in [Build::Cross, Build::CrossInTree] {
        let install =
            make(&["install"]).target("dfr0", &tree).build(&tree, build).programs(&Programs::Ready, &tree)?;
        install.clone().set("FORCE_TARGETS", "1").run()?;
        shell::ensure(
            tree.listed("dfr0")? == tests,
            "the list of tests is wrong",
            &tree.listed("dfr0")?.join("\n"),
        )?;
        for file in ["dfr0", "settings", "config"] {
            let installed = tree.installed().join("dfr0").join(file);
            shell::ensure(installed.is_file(), "not installed", &installed.display().to_string())?;
        }
        make(&["clean"]).target("dfr0", &tree).build(&tree, build).run()?;
        let after = tree.status()?;
        shell::ensure(before == after, "clean removes more or less than was built", &after)?;
    }

    for arch in ["x86_64", "riscv", "s390"] {
        let said =
            make(&["install"]).target("dfr0", &tree).set("ARCH", arch).set("FORCE_TARGETS", "1").run()?;
        shell::ensure(
            said.contains(&format!("this is ARCH={arch}: nothing to build")),
            "no message about ARCH",
            &said,
        )?;
        shell::ensure(tree.listed("dfr0")?.is_empty(), "tests are listed for another ARCH", &said)?;
    }
    make(&["install"]).target("dfr0 zram", &tree).set("ARCH", "arm64").set("SKIP_TARGETS", "dfr0").run()?;
    shell::ensure(tree.listed("dfr0")?.is_empty(), "SKIP_TARGETS is ignored", "")?;
    shell::ensure(!tree.listed("zram")?.is_empty(), "SKIP_TARGETS skips other tests", "")?;

    let all = make(&["all"]).target("dfr0", &tree).build(&tree, Build::Cross);
    all.clone().without_toolchain()?.fails("dfr0: not built: there is no cargo")?;
    all.set("PREBUILT", "target/bundle").fails("it must be the absolute path").map(drop)
}

/// `git am` applies the patch. The patch adds the line that install adds, and the line stays when dfr0 is removed.
fn the_patch_is_what_install_does() -> Result<(), Failed> {
    let tree = Tree::unpack("newest")?;
    let before = tree.status()?;
    tree.in_tree("install")?;
    let by_install = tree.git(&["diff"])?;
    tree.in_tree("remove")?;
    shell::ensure(tree.status()? == before, "remove leaves a difference", &tree.status()?)?;
    tree.git(&["am", "--quiet", &tree::repository_file("suites/kselftest/kvm-rust.patch")])?;
    let by_patch = tree.git(&["diff", "HEAD~"])?;
    shell::ensure(by_install == by_patch, "the patch does something else", &by_patch)?;
    tree.in_tree("install")?;
    tree.in_tree("remove")?;
    shell::ensure(tree.git(&["diff"])?.is_empty(), "remove reverts the patch", &tree.git(&["diff"])?)
}

/// What install and remove do not touch.
fn what_is_refused() -> Result<(), Failed> {
    let tree = Tree::unpack("trixie")?;
    let empty = tempfile::tempdir()?;
    let no_tree = empty.path().display().to_string();
    for command in ["install", "remove"] {
        tree::in_tree(command, &no_tree).fails("is not a kernel tree")?;
        tree::in_tree(command, "").fails("KSRC=")?;
    }
    tree.in_tree("install")?;
    let settings = tree.root().join("tools/testing/selftests/dfr0/settings");
    std::fs::write(&settings, "timeout=7\n")?;
    for command in ["install", "remove"] {
        tree::in_tree(command, &tree.root().display().to_string()).fails("settings")?;
    }
    shell::ensure(std::fs::read_to_string(&settings)? == "timeout=7\n", "a change is lost", "")?;
    tree::in_tree("remove", &tree.root().display().to_string()).env("FORCE", "1").run()?;
    std::fs::create_dir_all(tree.root().join("tools/testing/selftests/dfr0"))?;
    tree::in_tree("install", &tree.root().display().to_string()).fails("move it away").map(drop)
}

/// On an arm64 host that has make and a shell but no compiler: prebuilt programs, without O=.
fn natively() -> Result<(), Failed> {
    let tree = Tree::unpack("newest")?;
    tree.in_tree("install")?;
    let mut host = Host::new("newest")?;
    let suites = tree::suites();
    for part in [
        "scripts/subarch.include",
        "tools/testing/selftests/Makefile",
        "tools/testing/selftests/lib.mk",
        "tools/testing/selftests/run_kselftest.sh",
        "tools/testing/selftests/kselftest",
        "tools/testing/selftests/dfr0",
    ] {
        host.copy(&tree.root().join(part), &format!("linux/{part}"))?;
    }
    host.copy_bundle("bundle")?;
    let said = host.run(
        "cd linux/tools/testing/selftests; make='make TARGETS=dfr0 PREBUILT=/host/bundle'; \
         $make run_tests; $make install KSFT_INSTALL_PATH=/tmp/kselftest > /tmp/said; cd /tmp/kselftest; \
         echo '# listed:'; ./run_kselftest.sh -l; echo '# one:'; ./run_kselftest.sh -t dfr0:dfr0_double_lock | cat; \
         echo '# summary:'; ./run_kselftest.sh -s -t dfr0:dfr0_double_lock | cat; echo '# log:'; cat output.log; \
         echo '# longer:'; ./run_kselftest.sh -p /tmp/logs -o 4000 -t dfr0:dfr0_double_lock | cat; \
         echo '# its log:'; cat /tmp/logs/dfr0_double_lock",
    )?;
    let part =
        |from: &str| said.split_once(from).map(|(_, rest)| rest.split("\n# listed:").next().unwrap_or(rest));
    let run = said.split("# listed:").next().unwrap_or_default();
    let failed = run.lines().any(|line| line.trim_start_matches("# ").starts_with("not ok"));
    shell::ensure(!failed, "a test failed", run)?;
    shell::ensure(!tap::nested(run, &suites)?.is_empty(), "no case ran", run)?;
    let listed = part("# listed:\n").unwrap_or_default();
    let wanted: String = suites.iter().map(|suite| format!("dfr0:{suite}\n")).collect();
    shell::ensure(listed.starts_with(&wanted), "the list of tests is wrong", listed)?;
    let one = part("# one:\n").unwrap_or_default();
    shell::ensure(one.contains("\nok 1 selftests: dfr0: dfr0_double_lock\n"), "-t fails", one)?;
    let one_log =
        |log: &str| log.lines().filter(|line| line.trim_start_matches("# ") == "1..12").count() == 1;
    let log = part("# log:\n").unwrap_or_default();
    let (log, longer) = log.split_once("# longer:\n").unwrap_or((log, ""));
    shell::ensure(one_log(log), "-s writes no log", log)?;
    let (longer, log) = longer.split_once("# its log:\n").unwrap_or((longer, ""));
    shell::ensure(longer.contains("\nok 1 selftests: dfr0: dfr0_double_lock\n"), "-p fails", longer)?;
    shell::ensure(one_log(log), "-p writes no log", log)?;
    shell::ensure(log.contains("overriding timeout to 4000"), "-o is ignored", log)
}

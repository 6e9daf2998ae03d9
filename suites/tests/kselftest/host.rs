// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A lab host with the parts of Debian that kselftest needs, such as make, a shell, coreutils, perl and rsync, but without
//! a compiler.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::shell::{self, command, run, variable};

const PACKAGES: [&str; 11] = [
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "make",
    "perl-base",
    "rsync",
    "sed",
];

/// The host's first program. It links the directories of /host into the root, where the programs look for libraries.
const START: &str = "\
#!/host/usr/bin/busybox sh
busybox=/host/usr/bin/busybox
for directory in usr bin lib; do $busybox ln -s /host/$directory /$directory; done
$busybox ln -s /proc/self/fd /dev/fd
$busybox ln -s fd/1 /dev/stdout
export PATH=/usr/bin
exec bash -euc \"$1\"
";

/// A host that is booted for each script.
pub struct Host {
    kernel: String,
    cpu: &'static str,
    directory: TempDir,
}

impl Host {
    pub fn new(kernel: &str) -> Result<Self, Failed> {
        let directory = shell::directory()?;
        let lab = variable("DFR0_LAB")?;
        let archive = run(command(lab).arg("userland").args(PACKAGES).stderr(Stdio::null()))?;
        run(command("tar")
            .args(["--extract", "--file", archive.trim_end(), "--directory"])
            .arg(directory.path()))?;
        let start = directory.path().join("start");
        fs::write(&start, START)?;
        fs::set_permissions(&start, fs::Permissions::from_mode(0o755))?;
        Ok(Self { kernel: kernel.into(), cpu: "neoverse-v1", directory })
    }

    /// Selects the lab host.
    pub fn on(mut self, cpu: &'static str) -> Self {
        self.cpu = cpu;
        self
    }

    /// The path on this machine of the file that is /host/NAME in the host.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn copy(&mut self, from: &Path, to: &str) -> Result<(), Failed> {
        let to = self.path(to);
        fs::create_dir_all(to.parent().unwrap_or(&to))?;
        run(command("cp").arg("--archive").arg(from).arg(to)).map(drop)
    }

    /// Removes all programs except these from a directory.
    pub fn keep_in(&mut self, directory: &str, programs: &[&str]) -> Result<(), Failed> {
        for entry in fs::read_dir(self.path(directory))? {
            let entry = entry?;
            let executable = entry.metadata()?.permissions().mode() & 0o111 != 0;
            if executable && !programs.iter().any(|program| entry.file_name() == **program) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    pub fn copy_program(&mut self, name: &str) -> Result<(), Failed> {
        let from = Path::new(&variable("DFR0_BUNDLE")?).join(name);
        self.copy(&from, name)
    }

    pub fn copy_bundle(&mut self, to: &str) -> Result<(), Failed> {
        self.copy(Path::new(&variable("DFR0_BUNDLE")?), to)
    }

    /// Runs a script and returns its stdout. It is an error if the script fails.
    pub fn run(&self, script: &str) -> Result<String, Failed> {
        let mut lab = command(variable("DFR0_LAB")?);
        lab.args(["exec", "--deadline", "400", "--host", self.cpu, "--kernel", &self.kernel, "--with"]);
        let output = lab.arg(self.directory.path()).args(["--", "./start", script]).output()?;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let failed = format!("`{script}` failed ({}): {stderr}", output.status);
        shell::ensure(output.status.success(), &failed, &stdout)?;
        Ok(stdout.into_owned())
    }
}

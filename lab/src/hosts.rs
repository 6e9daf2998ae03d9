// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! hosts.toml: the hosts as data. The whole file is checked before any host is used.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::kernel::Choice;
use crate::mode::Mode;
use crate::shape::Shape;

/// The built-in file.
const BUILT_IN: &str = include_str!("../hosts.toml");

/// A machine that the lab can boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// A description in one line.
    pub about: String,
    /// QEMU's `-cpu` argument.
    pub cpu: String,
    /// The kernel that it boots.
    pub kernel: Choice,
    /// Number of CPUs.
    pub vcpus: u32,
    /// Memory in MiB, without that for the files of `--with`.
    pub memory_mib: u32,
    /// The CPU's shape, if it is not that of QEMU's model.
    pub shaped: Option<ShapedCpu>,
    /// How KVM runs there; `None` if it chooses.
    pub mode: Option<Mode>,
    /// The machine has memory for Allocation Tags.
    pub mte: bool,
}

impl Host {
    /// QEMU's `-M` argument.
    pub fn machine(&self) -> String {
        let mte = if self.mte { ",mte=on" } else { "" };
        format!("virt,virtualization=on,gic-version=3{mte}")
    }
}

/// A CPU model that gets another shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShapedCpu {
    /// QEMU's name for the model.
    pub model: String,
    /// The model's ID_AA64DFR0_EL1 in QEMU.
    pub id_aa64dfr0: u64,
    /// The shape that it gets.
    pub shape: Shape,
}

/// All hosts of a file.
#[derive(Clone, Debug)]
pub struct Hosts {
    hosts: BTreeMap<String, Host>,
    default: String,
    matrix: Vec<String>,
    origin: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    default: Spanned<String>,
    matrix: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    cpu: BTreeMap<String, CpuText>,
    host: BTreeMap<Spanned<String>, HostText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CpuText {
    id_aa64dfr0: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostText {
    about: String,
    cpu: Spanned<String>,
    kernel: Option<Spanned<String>>,
    vcpus: Option<Spanned<u32>>,
    memory_mib: Option<Spanned<u32>>,
    shape: Option<Shape>,
    mode: Option<Mode>,
    #[serde(default)]
    mte: bool,
}

impl Hosts {
    /// The hosts of `file`, or the built-in ones.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        match file {
            None => Self::parse("lab/hosts.toml (built in)", BUILT_IN),
            Some(file) => {
                let text = fs::read_to_string(file)
                    .with_context(|| format!("cannot read the hosts in {}", file.display()))?;
                Self::parse(&file.display().to_string(), &text)
            }
        }
    }

    fn parse(origin: &str, text: &str) -> Result<Self> {
        let at = |offset: usize| {
            let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
            format!("{origin}:{}", 1 + before.iter().filter(|&&byte| byte == b'\n').count())
        };
        let file: FileText = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            anyhow::anyhow!("{}: {}", at(offset), error.message())
        })?;

        let mut hosts = BTreeMap::new();
        for (name, host) in file.host {
            let place = at(name.span().start);
            let name = name.into_inner();
            let valid = |character: char| matches!(character, 'a'..='z' | '0'..='9' | '-');
            if name.is_empty() || !name.chars().all(valid) {
                bail!("{place}: host.{name:?}: a host's name consists of a-z, 0-9 and -");
            }
            let key = |key: &str, offset: usize| format!("{}: host.{name}.{key}", at(offset));

            let model = host.cpu.get_ref().split(',').next().unwrap_or_default();
            let shaped = match (host.shape, file.cpu.get(model)) {
                (None, _) => None,
                (Some(shape), Some(CpuText { id_aa64dfr0 })) => {
                    Some(ShapedCpu { model: model.into(), id_aa64dfr0: *id_aa64dfr0, shape })
                }
                (Some(_), None) => bail!(
                    "{}: the lab needs QEMU's constant for `{model}` to change its shape: add [cpu.{model}] with \
                     id_aa64dfr0",
                    key("cpu", host.cpu.span().start)
                ),
            };
            let kernel = match host.kernel {
                None => Choice::Newest,
                Some(kernel) => match kernel.get_ref().parse() {
                    Ok(choice) => choice,
                    Err(error) => bail!("{}: {error}", key("kernel", kernel.span().start)),
                },
            };
            let number =
                |name: &str, value: Option<Spanned<u32>>, default: u32, allowed: [u32; 2]| match value {
                    None => Ok(default),
                    Some(value) if (allowed[0]..=allowed[1]).contains(value.get_ref()) => {
                        Ok(value.into_inner())
                    }
                    Some(value) => bail!(
                        "{}: {} is not from {} to {}",
                        key(name, value.span().start),
                        value.get_ref(),
                        allowed[0],
                        allowed[1]
                    ),
                };
            let vcpus = number("vcpus", host.vcpus, 2, [1, 8])?;
            let memory_mib = number("memory_mib", host.memory_mib, 1024, [256, 65536])?;
            let cpu = host.cpu.into_inner();
            let (about, mode, mte) = (host.about, host.mode, host.mte);
            let host = Host { name: name.clone(), about, cpu, kernel, vcpus, memory_mib, shaped, mode, mte };
            hosts.insert(name, host);
        }

        let all = || hosts.keys().cloned().collect();
        let names =
            |listed: &Vec<Spanned<String>>| listed.iter().map(|name| name.get_ref().clone()).collect();
        let hosts = Self {
            matrix: file.matrix.as_ref().map_or_else(all, names),
            default: file.default.get_ref().clone(),
            hosts,
            origin: origin.into(),
        };
        for (key, name) in [("default", &file.default)]
            .into_iter()
            .chain(file.matrix.iter().flatten().map(|name| ("matrix", name)))
        {
            hosts.get(Some(name.get_ref())).with_context(|| format!("{}: {key}", at(name.span().start)))?;
        }
        Ok(hosts)
    }

    /// The host `name`, or the default host.
    pub fn get(&self, name: Option<&str>) -> Result<&Host> {
        let name = name.unwrap_or(&self.default);
        self.hosts.get(name).with_context(|| {
            let known: Vec<_> = self.hosts.keys().map(String::as_str).collect();
            format!("there is no host `{name}` in {}; its hosts are: {}", self.origin, known.join(", "))
        })
    }

    /// The hosts `names`, each once, or the hosts of a matrix if there are no names.
    pub fn several(&self, names: &[String]) -> Result<Vec<&Host>> {
        let mut hosts: Vec<&Host> = Vec::new();
        for name in if names.is_empty() { &self.matrix } else { names } {
            let host = self.get(Some(name))?;
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Ok(hosts)
    }

    /// All hosts in the order of their names, and whether each is the default.
    pub fn iter(&self) -> impl Iterator<Item = (&Host, bool)> {
        self.hosts.values().map(|host| (host, host.name == self.default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*, sample::Index};

    const GOOD: &str = r#"
default = "plain"
[cpu.v1]
id_aa64dfr0 = 0x1f210305519
[host.plain]
about = "x"
cpu = "v1,lpa2=off"
kernel = "bookworm"
[host.shaped]
about = "y"
cpu = "v1"
vcpus = 1
shape = { breakpoints = 16, watchpoints = 16, context_aware = 4 }
"#;

    fn error(old: &str, new: &str) -> String {
        assert!(GOOD.contains(old), "{old}");
        format!("{:#}", Hosts::parse("hosts.toml", &GOOD.replace(old, new)).unwrap_err())
    }

    #[test]
    fn the_built_in_hosts_are_good() {
        let hosts = Hosts::load(None).unwrap();
        assert_eq!(hosts.get(None).unwrap().name, "neoverse-v1");
        let max = hosts.get(Some("max")).unwrap();
        assert_eq!((&*max.cpu, max.machine().ends_with(",mte=on")), ("max,lpa2=off", true));
        for (host, _) in hosts.iter().filter(|(host, _)| host.name.contains("shape-")) {
            let Shape { breakpoints, watchpoints, context_aware } = host.shaped.as_ref().unwrap().shape;
            let counts = format!("shape-{breakpoints}-{watchpoints}-{context_aware}");
            assert!(host.name.ends_with(&counts), "{} is {counts}", host.name);
        }
    }

    #[test]
    fn keys_that_are_left_out_have_defaults() {
        let hosts = Hosts::parse("hosts.toml", GOOD).unwrap();
        let plain = hosts.get(Some("plain")).unwrap();
        assert_eq!((plain.vcpus, plain.memory_mib, &plain.shaped, plain.mode), (2, 1024, &None, None));
        assert!(!plain.machine().contains("mte"));
        assert_eq!(plain.kernel.to_string(), "bookworm");
        let shaped = hosts.get(Some("shaped")).unwrap();
        assert_eq!((shaped.vcpus, &shaped.kernel), (1, &Choice::Newest));
        assert_eq!(shaped.shaped.as_ref().unwrap().shape.context_aware, 4);
    }

    #[test]
    fn a_matrix_has_the_hosts_named_or_listed_or_all() {
        let names = |text: &str, names: &[&str]| -> Vec<String> {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let hosts = Hosts::parse("hosts.toml", text).unwrap();
            hosts.several(&names).unwrap().into_iter().map(|host| host.name.clone()).collect()
        };
        assert_eq!(names(GOOD, &[]), ["plain", "shaped"]);
        assert_eq!(names(&GOOD.replace("[cpu.v1]", "matrix = [\"shaped\"]\n[cpu.v1]"), &[]), ["shaped"]);
        assert_eq!(names(GOOD, &["shaped", "plain", "shaped"]), ["shaped", "plain"]);
        assert!(Hosts::load(None).unwrap().several(&["nope".into()]).is_err());
    }

    #[test]
    fn an_unknown_host_lists_the_known_ones() {
        let hosts = Hosts::parse("hosts.toml", GOOD).unwrap();
        let error = hosts.get(Some("nope")).unwrap_err().to_string();
        assert_eq!(error, "there is no host `nope` in hosts.toml; its hosts are: plain, shaped");
    }

    #[test]
    fn each_error_names_file_line_and_key() {
        for (old, new, place, reason) in [
            (
                "default = \"plain\"",
                "default = \"nope\"",
                "hosts.toml:2: default: ",
                "its hosts are: plain, shaped",
            ),
            ("default = \"plain\"", "", "hosts.toml:", "missing field `default`"),
            (
                "[cpu.v1]",
                "matrix = [\n\"plain\",\n\"nope\"]\n[cpu.v1]",
                "hosts.toml:5: matrix: ",
                "host `nope`",
            ),
            ("kernel = \"bookworm\"", "kernal = 1", "hosts.toml:8: ", "unknown field `kernal`"),
            ("\"bookworm\"", "\"buster\"", "hosts.toml:8: host.plain.kernel: ", "`buster` is not a kernel"),
            ("\"bookworm\"", "bookworm", "hosts.toml:8: ", ""),
            ("vcpus = 1", "vcpus = 0", "hosts.toml:12: host.shaped.vcpus: ", "0 is not from 1 to 8"),
            ("vcpus = 1", "vcpus = -1", "hosts.toml:12: ", ""),
            ("vcpus = 1", "memory_mib = 1", "hosts.toml:12: host.shaped.memory_mib: ", "from 256"),
            ("vcpus = 1", "cpu = \"v2\"", "hosts.toml:12: ", "duplicate key"),
            ("[cpu.v1]", "[cpu.v2]", "hosts.toml:11: host.shaped.cpu: ", "add [cpu.v1]"),
            ("[host.plain]", "[host.Plain]", "hosts.toml:5: host.\"Plain\": ", "a-z"),
            ("breakpoints = 16", "breakpoints = 17", "hosts.toml:13: ", "breakpoints = 17"),
            ("breakpoints = 16", "breakpoints = 1", "hosts.toml:13: ", "breakpoints = 1"),
            ("watchpoints = 16", "watchpoints = 1", "hosts.toml:13: ", "watchpoints = 1"),
            ("watchpoints = 16", "watchpoints = 17", "hosts.toml:13: ", "watchpoints = 17"),
            ("context_aware = 4", "context_aware = 0", "hosts.toml:13: ", "context_aware = 0"),
            ("context_aware = 4", "context_aware = 17", "hosts.toml:13: ", "context_aware = 17"),
            ("vcpus = 1", "mode = \"hvhe\"", "hosts.toml:12: ", "unknown variant `hvhe`"),
            ("context_aware = 4", "double_lock = 1", "hosts.toml:13: ", "unknown field `double_lock`"),
        ] {
            let error = error(old, new);
            assert!(error.starts_with(place) && error.contains(reason), "{new}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Hosts::load(Some(Path::new("/nonexistent/h.toml"))).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/h.toml: No such file"), "{error:#}");
    }

    proptest! {
        #[test]
        fn a_file_that_was_changed_is_read_or_refused(edits in vec((any::<Index>(), any::<char>()), 1..6)) {
            let mut text: Vec<char> = GOOD.chars().collect();
            for (place, new) in edits {
                let place = place.index(text.len());
                text[place] = new;
            }
            match Hosts::parse("hosts.toml", &text.into_iter().collect::<String>()) {
                Ok(hosts) => prop_assert!(hosts.get(None).is_ok()),
                Err(error) => {
                    let message = format!("{error:#}");
                    prop_assert!(message.starts_with("hosts.toml:"));
                }
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The manifest: the list of a bundle's parts, and the facts that are in no other part.

use super::{Pages, Problem, Snapshot};
use crate::{
    archive::{self, Entry, Part},
    fingerprint::Hex,
    image::Words,
};
use dfr0_model::wire::{RAM, RAM_SIZE};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::{collections::BTreeMap, io};

const FORMAT: &str = "dfr0-snapshot";
/// The version of the bundle and of its parts.
pub const VERSION: u8 = 1;
/// The upper limit of a manifest, in bytes.
const LONGEST: usize = 256 << 10;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    version: u8,
    dfr0: String,
    kernel: String,
    platform: String,
    /// For people; not read.
    shape: String,
    id_aa64dfr0: Hex,
    vcpus: usize,
    dc_zva_bytes: Option<u64>,
    operations_done: usize,
    words: Addresses,
    memory: Memory,
    parts: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Addresses {
    program: Hex,
    log: Hex,
    logged: Hex,
    place: Hex,
    turn: Hex,
    /// Older bundles have it; not read.
    #[serde(default, rename = "tight", skip_serializing)]
    _tight: IgnoredAny,
}

/// The guest's memory. The pages that are not zero are in the bundle, in this order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    address: Hex,
    size: usize,
    page_size: usize,
    pages: Vec<Hex>,
}

impl Manifest {
    /// The manifest of a snapshot with these other parts.
    pub fn of(snapshot: &Snapshot, parts: &[Part]) -> Self {
        let Words { program, log, logged, place, turn } = snapshot.words;
        Self {
            format: FORMAT.into(),
            version: VERSION,
            dfr0: snapshot.dfr0.clone(),
            kernel: snapshot.fingerprint.kernel.clone(),
            platform: snapshot.fingerprint.platform.clone().unwrap_or_default(),
            shape: snapshot.shape().to_string(),
            id_aa64dfr0: Hex(snapshot.id_aa64dfr0()),
            vcpus: snapshot.state.vcpus.len(),
            dc_zva_bytes: snapshot.zva_block,
            operations_done: snapshot.done,
            words: Addresses {
                program: Hex(program),
                log: Hex(log),
                logged: Hex(logged),
                place: Hex(place),
                turn: Hex(turn),
                _tight: IgnoredAny,
            },
            memory: Memory {
                address: Hex(RAM),
                size: RAM_SIZE,
                page_size: Pages::SIZE,
                pages: snapshot.state.memory.0.keys().map(|address| Hex(*address)).collect(),
            },
            parts: parts.iter().map(Entry::of).collect(),
        }
    }

    pub fn to_json(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads the manifest in the part `part`.
    pub fn read(bytes: &[u8], part: &'static str) -> Result<Self, Problem> {
        if bytes.len() > LONGEST {
            return Err(Problem::part(part)(format!("longer than {LONGEST} bytes")));
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| Problem::part(part)(error.to_string()))?;
        if manifest.version != VERSION {
            let version = manifest.version.into();
            return Err(archive::Problem::Version { version, reads: VERSION }.into());
        }
        manifest.check().map_err(Problem::part(part))?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        let Memory { address, size, page_size, .. } = &self.memory;
        if self.format != FORMAT {
            return Err(format!("format \"{}\", where \"{FORMAT}\" is needed", self.format));
        }
        if (address.0, *size, *page_size) != (RAM, RAM_SIZE, Pages::SIZE) {
            return Err(format!(
                "the memory is not {RAM_SIZE} bytes at {RAM:#x} in pages of {}",
                Pages::SIZE
            ));
        }
        if !(1..=2).contains(&self.vcpus) {
            return Err(format!("{} vCPUs, where 1 or 2 are possible", self.vcpus));
        }
        if self.dc_zva_bytes.is_some_and(|bytes| !bytes.is_power_of_two() || !(4..=2048).contains(&bytes)) {
            return Err("DC ZVA cannot zero this number of bytes".into());
        }
        for (what, text) in [("dfr0", &self.dfr0), ("kernel", &self.kernel), ("platform", &self.platform)] {
            if text.len() > 256 || text.chars().any(char::is_control) {
                return Err(format!("\"{what}\" must be printable text of at most 256 bytes"));
            }
        }
        Ok(())
    }

    /// Checks that the parts after the manifest are those that it lists.
    pub fn check_parts(&self, parts: &[Part]) -> Result<(), Problem> {
        Ok(Entry::check(&self.parts, parts)?)
    }

    /// The pages in the memory's part.
    pub fn pages(&self, bytes: &[u8]) -> Result<BTreeMap<u64, Vec<u8>>, String> {
        let addresses = &self.memory.pages;
        if addresses.len() > Pages::COUNT || bytes.len() != addresses.len() * Pages::SIZE {
            return Err(format!("{} bytes for {} pages", bytes.len(), addresses.len()));
        }
        let rises = addresses.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !rises || !addresses.iter().all(|address| Pages::is_page(address.0)) {
            return Err("its pages are not pages of the guest's memory, or not in order".into());
        }
        let pages = bytes.chunks_exact(Pages::SIZE).map(<[u8]>::to_vec);
        Ok(addresses.iter().map(|address| address.0).zip(pages).collect())
    }

    pub fn dfr0(&self) -> &str {
        &self.dfr0
    }

    pub fn vcpus(&self) -> usize {
        self.vcpus
    }

    pub fn done(&self) -> usize {
        self.operations_done
    }

    pub fn id_aa64dfr0(&self) -> u64 {
        self.id_aa64dfr0.0
    }

    pub fn zva_block(&self) -> Option<u64> {
        self.dc_zva_bytes
    }

    pub fn words(&self) -> Words {
        let Addresses { program, log, logged, place, turn, .. } = &self.words;
        Words { program: program.0, log: log.0, logged: logged.0, place: place.0, turn: turn.0 }
    }

    /// The addresses of [`Self::words`].
    pub fn words_in_order(&self) -> [u64; 5] {
        let Words { program, log, logged, place, turn } = self.words();
        [program, log, logged, place, turn]
    }
}

/// Whether a word of the guest's memory may have this address.
pub fn is_word(address: u64) -> bool {
    (RAM..RAM + RAM_SIZE as u64).contains(&address) && address.is_multiple_of(4)
}

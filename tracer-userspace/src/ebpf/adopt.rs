//! Whether pinned maps fit this program, and what they hold if they do not.

use std::{fs, io, os::fd::AsFd as _, path::Path};

use aya_obj::{EbpfSectionKind, Object};
use sha2::{Digest as _, Sha256};
use tracer_common::flow::{FlowKey, FlowValue};

use super::{
    objects::{self, Shape},
    pin::Pins,
    sweep::FlowTables,
};

/// The ring of the probe's own diagnostics: each process has its own.
const DIAGNOSTICS: &str = "AYA_LOGS";

/// What an earlier daemon has left.
#[derive(Debug)]
pub enum Found {
    Nothing,
    /// Maps that go on being used.
    Adopted,
    /// Pins that did not fit and are gone.
    Replaced(Replaced),
}

/// Pins that did not fit and are gone.
#[derive(Debug)]
pub struct Replaced {
    /// In words that continue "the pins of the daemon before this one were replaced: ".
    pub why: String,
    /// What was in their tables, where that could be read.
    pub remains: Option<Remains>,
}

#[derive(Debug)]
pub struct Remains {
    pub instance: u64,
    /// Of the last sweep; its counts may be in a journal or in a log as well.
    pub generation: u64,
    pub swept: Vec<(FlowKey, FlowValue)>,
    /// Counts since that sweep.
    pub live: Vec<(FlowKey, FlowValue)>,
}

/// The maps of the object that outlive a daemon, each with the shape that this one wants.
///
/// # Errors
/// The object is not one.
pub(super) fn wanted(object: &[u8], sizes: &[(&str, u32)]) -> io::Result<Vec<(String, Shape)>> {
    let parsed = Object::parse(object).map_err(io::Error::other)?;
    let named = parsed.maps.iter().filter(|(name, map)| {
        let is_map = matches!(
            map.section_kind(),
            EbpfSectionKind::Maps | EbpfSectionKind::BtfMaps
        );
        is_map && *name != DIAGNOSTICS
    });
    let shape = |(name, map): (&String, &aya_obj::Map)| {
        let size = sizes.iter().find(|(of, _)| of == name);
        let is_ring =
            map.map_type() == aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
        let entries = size.map_or(map.max_entries(), |(_, entries)| *entries);
        let shape = Shape {
            kind: map.map_type(),
            key_size: map.key_size(),
            value_size: if is_ring { 0 } else { map.value_size() },
            max_entries: if is_ring {
                entries.max(objects::page_bytes())
            } else {
                entries
            },
        };
        (name.clone(), shape)
    };
    Ok(named.map(shape).collect())
}

/// Whether the maps pinned in `directory` are those that are wanted; `None` if there are none.
pub(super) fn fits(directory: &Path, wanted: &[(String, Shape)]) -> Option<Result<(), String>> {
    if !directory.exists() {
        return None;
    }
    let checked = wanted.iter().try_for_each(|(name, wanted)| {
        let map = objects::open(&directory.join(name))
            .map_err(|error| format!("the map {name} cannot be opened: {error}"))?;
        let (_, shape) = objects::map_info(map.as_fd()).map_err(|error| error.to_string())?;
        match shape == *wanted {
            true => Ok(()),
            false => Err(differs(name, shape, *wanted)),
        }
    });
    Some(checked)
}

fn differs(name: &str, found: Shape, wanted: Shape) -> String {
    if (Shape {
        max_entries: 0,
        ..found
    }) == (Shape {
        max_entries: 0,
        ..wanted
    }) {
        let (found, wanted) = (found.max_entries, wanted.max_entries);
        return format!("the map {name} has room for {found}, and {wanted} was asked for");
    }
    format!("the map {name} is of another kind")
}

/// Detaches what is pinned and reads its tables, as far as this version understands them.
pub(super) fn drain(pins: &Pins) -> Option<Remains> {
    let open = |name: &str| objects::open(&pins.maps().join(name));
    let flow_shape = |table: &std::os::fd::OwnedFd| {
        let (_, shape) = objects::map_info(table.as_fd()).ok()?;
        let sizes = (shape.key_size as usize, shape.value_size as usize);
        (sizes == (size_of::<FlowKey>(), size_of::<FlowValue>())).then_some(())
    };
    let pair = [open("FLOWS_A").ok()?, open("FLOWS_B").ok()?];
    pair.iter().try_for_each(flow_shape)?;
    let outer = open("FLOWS").ok()?;
    let instance = instance(objects::map_info(outer.as_fd()).ok()?.0);
    let tables = FlowTables::adopt(outer, open("STATE").ok()?, pair).ok()?;
    super::pin::remove_directory(&pins.links()).ok()?;
    let (mut swept, mut live) = (Vec::new(), Vec::new());
    tables
        .read_swept(|key, value| swept.push((*key, *value)))
        .ok()?;
    tables
        .read_live(|key, value| live.push((*key, *value)))
        .ok()?;
    Some(Remains {
        instance,
        generation: tables.generation(),
        swept,
        live,
    })
}

/// A number that names these maps: the kernel gives no map id twice before it goes down.
pub(super) fn instance(map_id: u32) -> u64 {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digest = Sha256::digest(format!("{}/{map_id}", boot.trim()));
    bytemuck::pod_read_unaligned(&digest[..8])
}

//! `varve images`, `varve rmi`, `varve prune`: what is in the image store.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;
use varve_image::oci::{ContainerImage, Pruned, Stored};

use crate::age;
use crate::output::{count, cut, finish, human, print, short_digest, sum, terminal_width};
use crate::stacks::StoreArguments;
use crate::text::{json_pretty, say, shown};

#[derive(clap::Args)]
pub(crate) struct ListArguments {
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
    /// Print the digests only.
    #[arg(short, long)]
    quiet: bool,
    /// Print whole digests.
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    store: StoreArguments,
}

#[derive(clap::Args)]
pub(crate) struct RemoveArguments {
    /// Names of images, or the first digits of their digests.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Print what was removed as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArguments,
}

#[derive(clap::Args)]
pub(crate) struct PruneArguments {
    /// Print what was removed as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArguments,
}

/// Bytes of an image's layers.
pub(super) fn size(image: &ContainerImage) -> u64 {
    sum(image.layers.iter().map(|layer| layer.size))
}

/// When an image was made, in seconds since 1970, if it tells; Go's zero time tells nothing.
pub(super) fn created(image: &ContainerImage) -> Option<i64> {
    let text = image.config.get("created").and_then(Value::as_str)?;
    age::parse(text).filter(|time| *time >= 0)
}

/// The time now, in seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// How wide the columns of names and digests are.
struct Columns {
    name: usize,
    digest: usize,
    /// Longer names are cut off.
    cut: bool,
}

impl Columns {
    /// The cells of the other columns and those between all of them.
    const OTHERS: usize = 1 + 1 + 6 + 1 + 10 + 1 + 6;
    /// So that a table of ordinary names is as wide as a terminal.
    const NAME: usize = 32;
    /// Of a name at least so much is seen.
    const NAME_MIN: usize = 12;

    /// Columns for names of at most so many cells on such a terminal, if it is one.
    fn of(names: usize, terminal: Option<usize>, whole: bool) -> Columns {
        let all = Columns {
            name: names.max(Self::NAME),
            digest: if whole { 71 } else { 19 },
            cut: false,
        };
        let room = match terminal {
            Some(width) if !whole => width.saturating_sub(Self::OTHERS),
            _ => return all,
        };
        if all.name + all.digest <= room {
            return all;
        }
        // First the digest gets shorter, then the names.
        let name = names.max(Self::NAME_MIN);
        let digest = room.saturating_sub(name).clamp(6, 19);
        let digest = if digest < 19 { digest.min(12) } else { digest };
        let name = name.min(room.saturating_sub(digest).max(Self::NAME_MIN));
        Columns {
            name,
            digest,
            cut: true,
        }
    }
}

/// What a listing shows of an image, and no more: a hostile layout can list many large ones.
struct Row {
    name: Option<String>,
    digest: String,
    /// Or why it cannot be read.
    image: Result<Facts, String>,
}

struct Facts {
    layers: usize,
    size: u64,
    created: Option<i64>,
    /// As the configuration has it.
    text: Value,
}

impl Row {
    /// Longest time that is kept as text.
    const TIME_MAX: usize = 64;

    fn of(stored: Stored) -> Row {
        let facts = |image: ContainerImage| {
            let text = image.config.get("created").and_then(Value::as_str);
            let text = text.filter(|text| text.len() <= Self::TIME_MAX);
            Facts {
                layers: image.layers.len(),
                size: size(&image),
                created: created(&image),
                text: text.into(),
            }
        };
        Row {
            name: stored.name,
            digest: stored.digest,
            image: stored.image.map(facts),
        }
    }
}

pub(crate) fn list(arguments: &ListArguments) -> Result<u8> {
    let mut images = Vec::new();
    if let Some(store) = arguments.store.open()? {
        store.each_image(|stored| images.push(Row::of(stored)))?;
    }
    images.sort_by(|a, b| (&a.name, &a.digest).cmp(&(&b.name, &b.digest)));
    let mut status = 0;
    print(|out| {
        if arguments.json {
            let list: Vec<_> = images
                .iter()
                .map(|row| match &row.image {
                    Ok(facts) => json!({
                        "name": row.name,
                        "digest": row.digest,
                        "layers": facts.layers,
                        "size": facts.size,
                        "created": facts.text,
                    }),
                    Err(error) => json!({
                        "name": row.name,
                        "digest": row.digest,
                        "error": error,
                    }),
                })
                .collect();
            return writeln!(out, "{}", json_pretty(&Value::from(list)));
        }
        let names = images
            .iter()
            .map(|stored| shown(stored.name.as_deref().unwrap_or("<none>")).to_string());
        let names = names.map(|name| name.width()).max().unwrap_or(0);
        let columns = Columns::of(names, terminal_width(), arguments.no_trunc);
        let (wide, digits, now) = (columns.name, columns.digest, now());
        if !arguments.quiet {
            writeln!(
                out,
                "{:<wide$} {:<digits$} {:>6} {:>10} {:>6}",
                "NAME", "DIGEST", "LAYERS", "AGE", "SIZE"
            )?;
        }
        for stored in &images {
            let digest = match arguments.no_trunc {
                true => stored.digest.clone(),
                false => short_digest(&stored.digest, digits),
            };
            if arguments.quiet {
                writeln!(out, "{}", stored.digest)?;
                continue;
            }
            let name = shown(stored.name.as_deref().unwrap_or("<none>")).to_string();
            let name = match columns.cut {
                true => cut(&name, wide),
                false => name,
            };
            // Two letters may take one cell, and one letter two.
            let wide = wide.saturating_sub(name.width()) + name.chars().count();
            match &stored.image {
                Ok(facts) => {
                    let (layers, size) = (facts.layers, human(facts.size));
                    let age = facts.created;
                    let age = age.map_or("-".into(), |then| age::since(then, now));
                    writeln!(
                        out,
                        "{name:<wide$} {digest:<digits$} {layers:>6} {age:>10} {size:>6}"
                    )?;
                }
                Err(error) => {
                    status = 1;
                    writeln!(
                        out,
                        "{name:<wide$} {digest:<digits$} damaged: {}",
                        shown(error)
                    )?;
                }
            }
        }
        Ok(())
    })?;
    Ok(status)
}

pub(crate) fn remove(arguments: &RemoveArguments) -> Result<u8> {
    let Some(store) = arguments.store.open()? else {
        bail!(
            "there is no image store at {}",
            arguments.store.dir()?.display()
        );
    };
    let mut status = 0;
    let mut list = Vec::new();
    for name in &arguments.images {
        let removed = store.remove(name);
        if let Ok(pruned) = &removed {
            print_warnings(pruned);
        }
        match removed {
            Ok(pruned) if arguments.json => {
                list.push(json!({ "name": name, "files": pruned.blobs, "bytes": pruned.bytes }));
            }
            // Nobody need read it for the rest to be removed.
            Ok(pruned) => finish(writeln!(
                io::stdout(),
                "{}: removed, {} and {} freed",
                shown(name),
                count(pruned.blobs, "file"),
                human(pruned.bytes)
            ))?,
            Err(error) => {
                status = 1;
                say(error);
            }
        }
    }
    if arguments.json {
        print(|out| writeln!(out, "{}", json_pretty(&Value::from(list))))?;
    }
    Ok(status)
}

fn print_warnings(pruned: &Pruned) {
    for line in &pruned.warnings {
        say(format_args!("passed over: {line}"));
    }
}

pub(crate) fn prune(arguments: &PruneArguments) -> Result<u8> {
    let pruned = match arguments.store.open()? {
        Some(store) => store.prune()?,
        None => Pruned::default(),
    };
    print_warnings(&pruned);
    print(|out| match arguments.json {
        true => {
            let value = json!({ "files": pruned.blobs, "bytes": pruned.bytes });
            writeln!(out, "{}", json_pretty(&value))
        }
        false => writeln!(
            out,
            "{}, {} freed",
            count(pruned.blobs, "file"),
            human(pruned.bytes)
        ),
    })?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::Columns;

    #[test]
    fn a_table_fits_where_it_can() {
        for (names, terminal, expected) in [
            (10, Some(80), (32, 19)),
            (10, None, (32, 19)),
            (40, None, (40, 19)),
            (40, Some(80), (40, 12)),
            (10, Some(60), (12, 19)),
            (13, Some(50), (13, 11)),
            (60, Some(50), (18, 6)),
            (60, Some(20), (12, 6)),
        ] {
            let columns = Columns::of(names, terminal, false);
            let found = (columns.name, columns.digest);
            assert_eq!(found, expected, "{names} {terminal:?}");
        }
    }
}

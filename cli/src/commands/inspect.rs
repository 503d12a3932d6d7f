//! `varve inspect`: what an image says of itself, and what its layers are made of.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use varve_image::oci::{ContainerImage, Layer, Sha256Digest};

use super::images::{created, now, size};
use super::look::page::{self, Page};
use super::look::usage::{LayerUsage, MaxWaste, Usage, bar};
use crate::age;
use crate::output::{count, cut, human, print, short_digest, terminal_width};
use crate::stacks::{StackFiles, StoreArguments};
use crate::text::{json_pretty, shown};

/// Cells of a bar.
const BAR: usize = 8;
/// Of a command at least so many cells are shown.
const COMMAND: usize = 16;
/// Wasted files that are shown.
const WASTED: usize = 10;

#[derive(clap::Args)]
#[command(
    after_help = "Wasted are files of a layer that layers above replace or take away; an image's efficiency is the part of its layers' contents that \
        shows. The exit status is 1 if more is wasted than --max-waste allows."
)]
pub(crate) struct Arguments {
    /// Images: names in the store, or directories.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<OsString>,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
    /// Print whole digests and commands on a terminal, too.
    #[arg(long)]
    no_trunc: bool,
    /// Fail if layers above replace or take away more than this of the layers below: bytes (10m) or a part of
    /// all (5%).
    #[arg(long, value_name = "SIZE|PERCENT")]
    max_waste: Option<MaxWaste>,
    /// Write a page for browsers, `-` to standard output.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArguments,
}

/// An image, and what is in its layers where they can be opened.
struct Inspected {
    image: ContainerImage,
    usage: Result<Usage>,
    commands: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    if arguments.html.is_some() && arguments.images.len() > 1 {
        bail!("a page is about one image: name one with --html");
    }
    let mut list = Vec::new();
    for name in &arguments.images {
        let image = arguments.store.image(name)?;
        let commands = crate::history::commands(&image);
        let opened = StackFiles::of_image(image.clone()).and_then(|files| files.stack(false));
        let usage = opened.map(|mut stack| Usage::of(&mut stack));
        list.push(Inspected {
            image,
            usage,
            commands,
        });
    }
    let mut status = 0;
    if let Some(most) = arguments.max_waste {
        for (name, inspected) in arguments.images.iter().zip(&list) {
            match &inspected.usage {
                Ok(usage) if most.holds(&name.to_string_lossy(), usage) => {}
                Ok(_) => status = 1,
                Err(error) => bail!("{}: {error:#}", name.to_string_lossy()),
            }
        }
    }
    if let Some(target) = &arguments.html
        && let Some(inspected) = list.pop()
    {
        let usage = inspected.usage?;
        let image = &inspected.image;
        let files: Vec<_> = image
            .layers
            .iter()
            .map(|layer| layer.digest.to_string())
            .collect();
        let name = match &image.name {
            Some(name) => name.clone(),
            None => image.digest.to_string(),
        };
        let mut facts = vec![("Digest", image.digest.to_string())];
        facts.extend(self::facts(image, None));
        let page = Page {
            name: &name,
            facts,
            files: &files,
            usage: &usage,
        };
        page::write(&page, target)?;
        return Ok(status);
    }
    let width = terminal_width().filter(|_| !arguments.no_trunc);
    let short = !arguments.no_trunc && io::stdout().is_terminal();
    print(|out| {
        if arguments.json {
            let list: Vec<_> = list.iter().map(json_of).collect();
            return writeln!(out, "{}", json_pretty(&Value::from(list)));
        }
        for (number, inspected) in list.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            text_of(out, inspected, short, width)?;
        }
        Ok(())
    })?;
    Ok(status)
}

fn json_of(inspected: &Inspected) -> Value {
    let Inspected {
        image,
        usage,
        commands,
    } = inspected;
    let layer = |layer: &Layer| {
        json!({
            "digest": layer.digest.to_string(),
            "diff_id": layer.diff_id,
            "size": layer.size,
            "file": layer.path.display().to_string(),
        })
    };
    let usage = usage.as_ref().ok();
    let layers = image.layers.iter().enumerate().map(|(number, found)| {
        let mut value = layer(found);
        let used = usage.and_then(|usage| usage.layers.get(number));
        value["command"] = json!(commands.get(number));
        value["bytes"] = json!(used.map(|layer| layer.content));
        value["wasted_bytes"] = json!(used.map(LayerUsage::wasted));
        value
    });
    json!({
        "name": image.name,
        "digest": image.digest.to_string(),
        "size": size(image),
        "layers": layers.collect::<Vec<_>>(),
        "usage": usage.map(Usage::json),
        "index": image.named_index.as_ref().map(layer),
        "index_is_used": image.index.is_some(),
        "annotations": image.manifest.annotations(),
        "config": image.config,
    })
}

fn plain(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

/// What the configuration says, in the order of a list. What is kept has no age, which grows: `now` is for
/// what is read at once.
fn facts(image: &ContainerImage, now: Option<i64>) -> Vec<(&'static str, String)> {
    let platform = ["os", "architecture"].map(|key| plain(image.config.get(key)));
    let mut facts = vec![("Platform", platform.join("/"))];
    for (name, value) in [
        ("Created", image.config.get("created")),
        ("Author", image.config.get("author")),
        ("Entrypoint", image.setting("Entrypoint")),
        ("Command", image.setting("Cmd")),
        ("User", image.setting("User")),
        ("Directory", image.setting("WorkingDir")),
        ("Ports", image.setting("ExposedPorts")),
        ("Volumes", image.setting("Volumes")),
        ("Stop signal", image.setting("StopSignal")),
    ] {
        let mut value = plain(value.filter(|value| !value.is_null()));
        if value.is_empty() {
            continue;
        }
        if let ("Created", Some(then), Some(now)) = (name, created(image), now) {
            value = format!("{value} ({} ago)", age::since(then, now));
        }
        facts.push((name, value));
    }
    for variable in image.list("Env") {
        facts.push(("Env", variable));
    }
    if let Some(Value::Object(labels)) = image.setting("Labels") {
        for (key, value) in labels {
            facts.push(("Label", format!("{key}={}", plain(Some(value)))));
        }
    }
    facts
}

fn text_of(
    out: &mut dyn Write,
    inspected: &Inspected,
    short: bool,
    width: Option<usize>,
) -> io::Result<()> {
    let Inspected {
        image,
        usage,
        commands,
    } = inspected;
    let digest = |whole: &Sha256Digest| match short {
        true => short_digest(&whole.to_string(), usize::MAX),
        false => whole.to_string(),
    };
    let name = shown(image.name.as_deref().unwrap_or("<none>"));
    writeln!(out, "Name:       {name}")?;
    writeln!(out, "Digest:     {}", digest(&image.digest))?;
    for (name, value) in facts(image, Some(now())) {
        writeln!(out, "{:<12}{}", format!("{name}:"), shown(&value))?;
    }
    writeln!(
        out,
        "Size:       {} in {}",
        human(size(image)),
        count(image.layers.len() as u64, "layer")
    )?;
    match &image.named_index {
        Some(index) => {
            let how = match &image.index {
                Some(_) => "",
                None => " (not used: it was not made here; `varve convert` makes one)",
            };
            let size = human(index.size);
            writeln!(out, "Index:      {} {size:>8}{how}", digest(&index.digest))?;
        }
        None => writeln!(out, "Index:      none")?,
    }
    match usage {
        Ok(usage) => writeln!(out, "Efficiency: {}", usage.score())?,
        Err(error) => writeln!(
            out,
            "Efficiency: not known: {}",
            shown(&format!("{error:#}"))
        )?,
    }
    let usage = usage.as_ref().ok();
    // A number, a digest, two sizes, the bar, and what is between them: on a narrow terminal the command
    // takes the place of the bar and of digits.
    let fixed = |digits: usize, cells: usize| 6 + digits + 14 + cells + 2;
    let fits = |digits, cells| width.is_none_or(|width| fixed(digits, cells) + COMMAND <= width);
    let (digits, cells) = match short {
        false => (71, BAR),
        true if fits(19, BAR) => (19, BAR),
        true if fits(12, BAR) => (12, BAR),
        true => (8, 0),
    };
    let room = width.map(|width| width.saturating_sub(fixed(digits, cells)));
    let fit = |text: &str| room.map_or_else(|| text.to_owned(), |room| cut(text, room));
    let in_table = |whole: &Sha256Digest| match short {
        true => short_digest(&whole.to_string(), digits),
        false => whole.to_string(),
    };
    writeln!(
        out,
        "\n{:>5} {:<digits$} {:>6} {:>6} {:cells$} {}",
        "LAYER",
        "DIGEST",
        "SIZE",
        "WASTED",
        "",
        fit("COMMAND")
    )?;
    let most = image.layers.iter().map(|layer| layer.size).max();
    for (number, layer) in image.layers.iter().enumerate() {
        let wasted = usage.and_then(|usage| usage.layers.get(number));
        let wasted = wasted.map_or("-".into(), |layer| human(layer.wasted()));
        let command = commands.get(number).map_or("", String::as_str);
        let command = fit(&shown(command).to_string());
        let bar = match cells {
            0 => String::new(),
            cells => bar(layer.size, most.unwrap_or(0), cells),
        };
        let line = format!(
            "{number:>5} {:<digits$} {:>6} {wasted:>6} {bar} {command}",
            in_table(&layer.digest),
            human(layer.size),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    let Some(usage) = usage.filter(|usage| !usage.wasted.is_empty()) else {
        return Ok(());
    };
    writeln!(out, "\nWasted:")?;
    for wasted in usage.wasted.iter().take(WASTED) {
        let path = wasted.path_from_root();
        writeln!(
            out,
            "{:>8}  {} ({})",
            human(wasted.bytes),
            shown(&path),
            wasted.fate()
        )?;
    }
    match usage.wasted.len().saturating_sub(WASTED) {
        0 => Ok(()),
        more => writeln!(out, "{:>8}  and {more} more; --json lists them", ""),
    }
}

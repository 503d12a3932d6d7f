//! `varve images`, `varve rmi`, `varve prune`, `varve inspect`: what is in the image store.

use std::ffi::OsString;
use std::io::{self, Write};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use varve_image::oci::{ContainerImage, Layout, Pruned};

use crate::output::{human, print};
use crate::stacks::StoreArguments;

#[derive(clap::Args)]
pub(crate) struct ListArguments {
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
    /// Print the digests only.
    #[arg(short, long)]
    quiet: bool,
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

#[derive(clap::Args)]
pub(crate) struct InspectArguments {
    /// Images: names in the store, or directories.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<OsString>,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArguments,
}

/// The layout of the store; `None` while there is none.
fn store(arguments: &StoreArguments) -> Result<Option<Layout>> {
    let dir = arguments.dir()?;
    match dir.join("oci-layout").exists() {
        true => Ok(Some(Layout::open(&dir)?)),
        false => Ok(None),
    }
}

fn size(image: &ContainerImage) -> u64 {
    image.layers.iter().map(|layer| layer.size).sum()
}

pub(crate) fn list(arguments: &ListArguments) -> Result<u8> {
    let images = match store(&arguments.store)? {
        Some(store) => store.images()?,
        None => Vec::new(),
    };
    let mut status = 0;
    print(|out| {
        if arguments.json {
            let list: Vec<_> = images
                .iter()
                .map(|stored| match &stored.image {
                    Ok(image) => json!({
                        "name": stored.name,
                        "digest": stored.digest.to_string(),
                        "layers": image.layers.len(),
                        "size": size(image),
                        "created": image.config.get("created"),
                    }),
                    Err(error) => json!({
                        "name": stored.name,
                        "digest": stored.digest.to_string(),
                        "error": error,
                    }),
                })
                .collect();
            return writeln!(out, "{:#}", Value::from(list));
        }
        if !arguments.quiet {
            writeln!(
                out,
                "{:<32} {:<19} {:>6} {:>8}",
                "NAME", "DIGEST", "LAYERS", "SIZE"
            )?;
        }
        for stored in &images {
            let digest: String = stored.digest.to_string().chars().take(19).collect();
            if arguments.quiet {
                writeln!(out, "{}", stored.digest)?;
                continue;
            }
            let name = stored.name.as_deref().unwrap_or("<none>");
            match &stored.image {
                Ok(image) => {
                    let (layers, size) = (image.layers.len(), human(size(image)));
                    writeln!(out, "{name:<32} {digest} {layers:>6} {size:>8}")?;
                }
                Err(error) => {
                    status = 1;
                    writeln!(out, "{name:<32} {digest} damaged: {error}")?;
                }
            }
        }
        Ok(())
    })?;
    Ok(status)
}

pub(crate) fn remove(arguments: &RemoveArguments) -> Result<u8> {
    let Some(store) = store(&arguments.store)? else {
        bail!(
            "there is no image store at {}",
            arguments.store.dir()?.display()
        );
    };
    let mut status = 0;
    let mut list = Vec::new();
    for name in &arguments.images {
        match store.remove(name) {
            Ok(pruned) if arguments.json => {
                list.push(json!({ "name": name, "files": pruned.blobs, "bytes": pruned.bytes }))
            }
            Ok(pruned) => writeln!(
                io::stdout(),
                "{name}: removed, {} files and {} freed",
                pruned.blobs,
                human(pruned.bytes)
            )
            .context("standard output")?,
            Err(error) => {
                status = 1;
                let _ = writeln!(io::stderr(), "varve: {error}");
            }
        }
    }
    if arguments.json {
        print(|out| writeln!(out, "{:#}", Value::from(list)))?;
    }
    Ok(status)
}

pub(crate) fn prune(arguments: &PruneArguments) -> Result<u8> {
    let pruned = match store(&arguments.store)? {
        Some(store) => store.prune()?,
        None => Pruned::default(),
    };
    print(|out| match arguments.json {
        true => {
            let value = json!({ "files": pruned.blobs, "bytes": pruned.bytes });
            writeln!(out, "{value:#}")
        }
        false => writeln!(out, "{} files, {} freed", pruned.blobs, human(pruned.bytes)),
    })?;
    Ok(0)
}

pub(crate) fn inspect(arguments: &InspectArguments) -> Result<u8> {
    let images = arguments
        .images
        .iter()
        .map(|name| arguments.store.image(name))
        .collect::<Result<Vec<_>>>()?;
    print(|out| {
        if arguments.json {
            let list: Vec<_> = images.iter().map(json_of).collect();
            return writeln!(out, "{:#}", Value::from(list));
        }
        for (number, image) in images.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            text_of(out, image)?;
        }
        Ok(())
    })?;
    Ok(0)
}

fn json_of(image: &ContainerImage) -> Value {
    let layer = |layer: &varve_image::oci::Layer| {
        json!({
            "digest": layer.digest.to_string(),
            "diff_id": layer.diff_id,
            "size": layer.size,
            "file": layer.path.display().to_string(),
        })
    };
    json!({
        "name": image.name,
        "digest": image.digest.to_string(),
        "size": size(image),
        "layers": image.layers.iter().map(layer).collect::<Vec<_>>(),
        "index": image.index.as_ref().map(layer),
        "annotations": image.manifest.annotations(),
        "config": image.config,
    })
}

fn text_of(out: &mut dyn Write, image: &ContainerImage) -> io::Result<()> {
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    writeln!(
        out,
        "Name:       {}",
        image.name.as_deref().unwrap_or("<none>")
    )?;
    writeln!(out, "Digest:     {}", image.digest)?;
    let platform = ["os", "architecture"].map(|key| text(image.config.get(key)));
    writeln!(out, "Platform:   {}", platform.join("/"))?;
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
        let value = text(value.filter(|value| !value.is_null()));
        if !value.is_empty() {
            writeln!(out, "{:<12}{value}", format!("{name}:"))?;
        }
    }
    for variable in image.list("Env") {
        writeln!(out, "Env:        {variable}")?;
    }
    if let Some(Value::Object(labels)) = image.setting("Labels") {
        for (key, value) in labels {
            writeln!(out, "Label:      {key}={}", text(Some(value)))?;
        }
    }
    writeln!(
        out,
        "Size:       {} in {} layers",
        human(size(image)),
        image.layers.len()
    )?;
    for layer in &image.layers {
        writeln!(out, "  {} {:>8}", layer.digest, human(layer.size))?;
    }
    match &image.index {
        Some(index) => writeln!(out, "Index:      {} {:>8}", index.digest, human(index.size)),
        None => writeln!(out, "Index:      none"),
    }
}

//! `--mount` options.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};

/// A mount as the command line asks for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountOption {
    /// Absolute path in the sandbox.
    pub target: String,
    pub kind: MountKind,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MountKind {
    Tmpfs { size: Option<u64>, mode: u32 },
    Image { source: PathBuf, writable: bool },
}

impl MountOption {
    /// Parses `type=tmpfs,dst=/scratch,size=64m,mode=1777` or `type=imgfs,src=x.img,dst=/img,rw`.
    pub(crate) fn parse(text: &str) -> Result<MountOption> {
        parse(text).with_context(|| format!("--mount {text}"))
    }
}

fn parse(text: &str) -> Result<MountOption> {
    let (mut kind, mut target, mut source) = (None, None, None);
    let (mut size, mut mode, mut writable) = (None, None, false);
    for field in text.split(',') {
        let (name, value) = field
            .split_once('=')
            .map_or((field, None), |(name, value)| (name, Some(value)));
        let given = || value.ok_or_else(|| anyhow!("`{name}` needs a value"));
        match name {
            "type" => kind = Some(given()?),
            "dst" | "destination" | "target" => target = Some(given()?),
            "src" | "source" => source = Some(given()?),
            "size" | "tmpfs-size" => size = Some(parse_size(given()?)?),
            "mode" | "tmpfs-mode" => {
                let text = given()?;
                let bits = u32::from_str_radix(text, 8)
                    .ok()
                    .filter(|&bits| bits <= 0o7777);
                mode = Some(bits.ok_or_else(|| anyhow!("mode `{text}` is not an octal mode"))?);
            }
            "rw" if value.is_none() => writable = true,
            "ro" | "readonly" if value.is_none() => writable = false,
            _ => bail!("unknown field `{field}`"),
        }
    }
    let target = target.ok_or_else(|| anyhow!("`dst` is missing"))?;
    if !target.starts_with('/') {
        bail!("dst `{target}` is not an absolute path");
    }
    let kind = match kind {
        Some("tmpfs") => {
            if source.is_some() {
                bail!("a tmpfs has no `src`");
            }
            MountKind::Tmpfs {
                size,
                mode: mode.unwrap_or(0o1777),
            }
        }
        Some("imgfs") => {
            if size.is_some() || mode.is_some() {
                bail!("`size` and `mode` are for type=tmpfs");
            }
            let source = source.ok_or_else(|| anyhow!("`src` is missing"))?;
            MountKind::Image {
                source: source.into(),
                writable,
            }
        }
        Some(other) => bail!("unknown type `{other}`: there are tmpfs and imgfs"),
        None => bail!("`type` is missing: tmpfs or imgfs"),
    };
    Ok(MountOption {
        target: target.to_owned(),
        kind,
    })
}

/// A number of bytes with an optional `k`, `m`, `g` or `t`.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower
        .strip_suffix("ib")
        .or(lower.strip_suffix('b'))
        .unwrap_or(&lower);
    let (digits, shift) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 10),
        Some(b'm') => (&lower[..lower.len() - 1], 20),
        Some(b'g') => (&lower[..lower.len() - 1], 30),
        Some(b't') => (&lower[..lower.len() - 1], 40),
        _ => (lower, 0),
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| anyhow!("`{text}` is not a size such as 64m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_parsed() {
        assert_eq!(
            MountOption::parse("type=tmpfs,dst=/scratch,size=64m,mode=700").unwrap(),
            MountOption {
                target: "/scratch".into(),
                kind: MountKind::Tmpfs {
                    size: Some(64 << 20),
                    mode: 0o700
                }
            }
        );
        assert_eq!(
            MountOption::parse("type=imgfs,src=x.img,dst=/img,rw")
                .unwrap()
                .kind,
            MountKind::Image {
                source: "x.img".into(),
                writable: true
            }
        );
    }

    #[test]
    fn wrong_mounts_say_what_is_wrong() {
        for (text, says) in [
            ("dst=/x", "`type` is missing"),
            ("type=bind,dst=/x", "unknown type `bind`"),
            ("type=tmpfs", "`dst` is missing"),
            ("type=tmpfs,dst=x", "not an absolute path"),
            ("type=tmpfs,dst=/x,size=lots", "not a size"),
            ("type=imgfs,dst=/x", "`src` is missing"),
            ("type=tmpfs,dst=/x,mode=999", "not an octal mode"),
            ("type=tmpfs,dst=/x,what", "unknown field `what`"),
        ] {
            let error = format!("{:#}", MountOption::parse(text).unwrap_err());
            assert!(
                error.starts_with("--mount ") && error.contains(says),
                "{error}"
            );
        }
    }
}

//! What is in an image as one page for browsers: no script, nothing from elsewhere, everything of the image
//! escaped.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::absolute;
use super::usage::{LayerUsage, Usage, percent};
use crate::output::{human, print};
use crate::text;
use crate::whole::Whole;

/// Most rows of a table.
const ROWS: usize = 200;

/// What a page is made of.
pub(crate) struct Page<'a> {
    /// What the image is called.
    pub name: &'a str,
    /// What its configuration says: names and values.
    pub facts: Vec<(&'static str, String)>,
    /// The layers' files.
    pub files: &'a [String],
    /// What is in them.
    pub usage: &'a Usage,
}

/// Writes the page to a file; `-` is standard output.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write(page: &Page<'_>, target: &Path) -> Result<()> {
    let html = render(page);
    if target.as_os_str() == "-" {
        return print(|out| out.write_all(html.as_bytes()));
    }
    Whole::write(target, html.as_bytes())?;
    print(|out| {
        writeln!(
            out,
            "{}: a page on {}",
            text::path(target),
            text::shown(page.name)
        )
    })
}

/// Text as it can stand in a page, also in an attribute: what would act on a reader is shown, what would be
/// markup is written out.
fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for c in text::shown(bytes).to_string().chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

const STYLE: &str = "
:root { color-scheme: light dark; --bar: #3b7dd8; --waste: #d8743b; --line: #8886; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid var(--line); }
th.n, td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; width: 4.5rem; }
td:has(.bar) { width: 10.5rem; }
code { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
.bar { width: 10rem; height: .8rem; margin-top: .3rem; background: var(--line); border-radius: 2px; overflow: hidden; display: flex; }
.bar i { display: block; background: var(--bar); } .bar i + i { background: var(--waste); }
.score { font-size: 2rem; font-weight: 600; } .dim { opacity: .7; }
@media (max-width: 40rem) {
  .bar { width: 4rem; } td:has(.bar) { width: auto; } th, td { box-sizing: border-box; } th.n, td.n { width: 5.8rem; }
  .layers, .layers tbody { display: block; } .layers tr { display: flex; flex-wrap: wrap; border-bottom: 1px solid var(--line); }
  .layers th, .layers td { border: 0; } .layers th:last-child, .layers td:last-child { flex: 1 0 100%; }
}
";

fn render(page: &Page<'_>) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = fill(&mut out, page);
    out
}

fn fill(out: &mut String, page: &Page<'_>) -> std::fmt::Result {
    let usage = page.usage;
    let name = escaped(page.name.as_bytes());
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1><bdi>{name}</bdi></h1>\n"
    )?;
    let all = usage.content();
    writeln!(
        out,
        "<p><span class=\"score\">{}</span> efficient: {} of {} in {} are replaced or taken away by layers above.{}</p>",
        percent(usage.efficiency()),
        human(usage.wasted_bytes()),
        human(all),
        crate::output::count(usage.layers.len() as u64, "layer"),
        match usage.incomplete {
            true => " Not everything could be read.",
            false => "",
        }
    )?;
    if !page.facts.is_empty() {
        out.push_str("<h2>Configuration</h2>\n<table>\n");
        for (key, value) in &page.facts {
            let value = escaped(value.as_bytes());
            writeln!(
                out,
                "<tr><th>{key}</th><td><code><bdi>{value}</bdi></code></td></tr>"
            )?;
        }
        out.push_str("</table>\n");
    }
    layers(out, page)?;
    if !usage.wasted.is_empty() {
        out.push_str(
            "<h2>Wasted</h2>\n<table>\n<tr><th class=\"n\">Bytes</th><th>File</th><th>Where</th></tr>\n",
        );
        for wasted in usage.wasted.iter().take(ROWS) {
            writeln!(
                out,
                "<tr><td class=\"n\">{}</td><td><code><bdi>{}</bdi></code></td><td>{}</td></tr>",
                human(wasted.bytes),
                escaped(&wasted.path_from_root()),
                wasted.fate()
            )?;
        }
        out.push_str("</table>\n");
        rest(out, usage.wasted.len())?;
    }
    out.push_str("<h2>Directories</h2>\n<table>\n");
    let whole = usage.dirs.get(&b""[..]).copied().unwrap_or(0);
    let mut dirs: Vec<_> = usage.dirs.iter().filter(|(_, bytes)| **bytes > 0).collect();
    dirs.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
    for (dir, bytes) in dirs.iter().take(ROWS) {
        row(out, **bytes, whole, &absolute(dir), "")?;
    }
    out.push_str("</table>\n");
    rest(out, dirs.len())?;
    out.push_str("<h2>Largest files</h2>\n<table>\n");
    for (bytes, layer, path) in usage.files.iter().take(ROWS) {
        row(
            out,
            *bytes,
            whole,
            &absolute(path),
            &format!("layer {layer}"),
        )?;
    }
    out.push_str("</table>\n");
    rest(out, usage.files.len())?;
    out.push_str("</body>\n</html>\n");
    Ok(())
}

fn rest(out: &mut String, rows: usize) -> std::fmt::Result {
    match rows.saturating_sub(ROWS) {
        0 => Ok(()),
        more => writeln!(out, "<p class=\"dim\">and {more} more</p>"),
    }
}

fn width(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => (100.0 * part as f64 / whole as f64).min(100.0),
    }
}

fn row(out: &mut String, bytes: u64, whole: u64, path: &[u8], more: &str) -> std::fmt::Result {
    writeln!(
        out,
        "<tr><td class=\"n\">{}</td><td><div class=\"bar\"><i style=\"width:{:.2}%\"></i></div></td>\
         <td><code><bdi>{}</bdi></code></td><td class=\"dim\">{more}</td></tr>",
        human(bytes),
        width(bytes, whole),
        escaped(path)
    )
}

fn layers(out: &mut String, page: &Page<'_>) -> std::fmt::Result {
    out.push_str(
        "<h2>Layers</h2>\n<table class=\"layers\">\n<tr><th class=\"n\">Layer</th><th class=\"n\">Image</th><th class=\"n\">Contents</th>\
         <th class=\"n\">Wasted</th><th></th><th>Made by</th></tr>\n",
    );
    let layers = &page.usage.layers;
    let most = layers.iter().map(|layer| layer.content).max().unwrap_or(0);
    for (number, layer) in layers.iter().enumerate() {
        let LayerUsage {
            image,
            content,
            visible,
            command,
        } = layer;
        let file = page.files.get(number).map_or("", String::as_str);
        let file = file.rsplit('/').next().unwrap_or(file);
        writeln!(
            out,
            "<tr><td class=\"n\">{number}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td><div class=\"bar\"><i style=\"width:{:.2}%\"></i><i style=\"width:{:.2}%\"></i></div></td>\
             <td><code><bdi>{}</bdi></code><br><code class=\"dim\"><bdi>{}</bdi></code></td></tr>",
            human(*image),
            human(*content),
            human(layer.wasted()),
            width((*visible).min(*content), most),
            width(layer.wasted(), most),
            escaped(command.as_deref().unwrap_or_default().as_bytes()),
            escaped(file.as_bytes())
        )?;
    }
    out.push_str("</table>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn nothing_of_an_image_is_markup() {
        assert_eq!(
            escaped(b"<script>alert(\"1\" & '2')</script>\x1b\xff"),
            "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;\\x1b\\xff"
        );
    }
}

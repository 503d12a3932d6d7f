//! The page of `--html` in a real browser: what it shows, that it fits, and that nothing of the image is
//! markup there.

use serde_json::Value;

use super::*;

/// Without a network, a sandbox of its own or anything that is kept.
const OPTIONS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--dump-dom",
];

/// Says what the browser made of the page, at its end, as text.
const MEASURE: &str = r#"<script>
const all = query => [...document.querySelectorAll(query)];
const bars = all('.bar').map(bar => [...bar.children].map(part =>
    part.getBoundingClientRect().width / bar.getBoundingClientRect().width));
const seen = {
    title: document.title,
    scripts: document.scripts.length,
    foreign: all('img, b, a, iframe, form, input, svg, object, link').length,
    evil: window.evil === undefined,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    tables: all('table').map(table => [...table.rows].map(row => [...row.cells].map(cell => cell.innerText))),
    room: Math.min(...all('.layers td:last-child').map(cell => cell.getBoundingClientRect().width / innerWidth)),
    bars, score: document.querySelector('.score').innerText,
};
document.body.append('MEASURED' + JSON.stringify(seen) + 'MEASURED');
</script>"#;

/// What is in the document when the browser has loaded a page in a window of such a width.
fn dom(place: &Place, page: &str, width: u32) -> String {
    let profile = format!("--user-data-dir={}", place.at("profile").display());
    let window = format!("--window-size={width},900");
    let url = format!("file://{}", place.at(page).display());
    let mut command = place.prepared("timeout", &["60", "chromium"]);
    command.args(OPTIONS).args([&profile, &window, &url]);
    command.env("HOME", place.dir.path());
    let output = run(&mut command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// What the page says of itself in a window of such a width.
fn measured(place: &Place, page: &str, width: u32) -> Value {
    // Characters of text are escaped in a document that is written out.
    let dom = dom(place, page, width);
    let found = dom.rsplit("MEASURED").nth(1).unwrap_or_default();
    let json = found
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&nbsp;", " ")
        .replace("&amp;", "&");
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}\n{dom}"))
}

#[test]
fn a_browser_shows_the_page_and_runs_nothing_of_the_image() {
    let place = Place::new();
    let version = Command::new("chromium").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        return skip("the page in a browser", "there is no chromium");
    }
    looks::wasteful(&place);
    place.ok(&["inspect", "--html", "page.html", "./image"]);

    // As it is: the policy of the page stands, no element of the image's.
    let shown = dom(&place, "page.html", 1000);
    for tag in ["<script", "<img", "<b>"] {
        assert!(!shown.contains(tag), "{shown}");
    }
    assert!(shown.contains("ADD file:&lt;script&gt;window.evil=1&lt;/script&gt; in /"));

    // A copy that may run scripts, and has one that looks around: the image's would run, too.
    let page = fs::read_to_string(place.at("page.html")).unwrap();
    let policy = "style-src 'unsafe-inline'";
    assert!(page.contains(policy));
    let page = page
        .replace(
            policy,
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src *",
        )
        .replace("</body>", &format!("{MEASURE}</body>"));
    fs::write(place.at("copy.html"), page).unwrap();
    for width in [1000, 520] {
        let seen = measured(&place, "copy.html", width);
        assert_eq!(seen["title"], "latest", "{seen}");
        assert_eq!(seen["scripts"], 1, "{seen}");
        assert_eq!(seen["foreign"], 0, "{seen}");
        assert_eq!(seen["evil"], true, "{seen}");
        assert_eq!(
            seen["overflow"], 0,
            "wider than a window of {width}: {seen}"
        );
        // What made a layer is no sliver beside the numbers.
        assert!(seen["room"].as_f64().unwrap() > 0.3, "{width}: {seen}");
        // 60,000 and 20,000 of 90,000 bytes and some do not show.
        assert_eq!(seen["score"], "11.1%", "{seen}");
        let tables = seen["tables"].as_array().unwrap();
        let table = |heading: &str| {
            let found = tables.iter().find(|table| {
                let cells = table[0].as_array().unwrap();
                cells.iter().any(|cell| cell == heading)
            });
            found.unwrap_or_else(|| panic!("{heading}: {seen}"))
        };
        let layers = table("Made by").as_array().unwrap();
        assert_eq!(layers.len(), 4, "{seen}");
        let column = |at: usize| {
            let rows = layers[1..].iter();
            rows.map(|row| row[at].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(column(2), ["79K", "9.8K", "0"], "{seen}");
        assert_eq!(column(3), ["79K", "0", "0"], "{seen}");
        let wasted = table("Where").as_array().unwrap();
        assert_eq!(wasted[1][0], "59K", "{seen}");
        assert_eq!(wasted[1][1], "/usr/lib/large", "{seen}");
        assert_eq!(wasted[1][2], "layer 0, replaced in layer 1", "{seen}");
        assert_eq!(wasted[2][1], "/usr/lib/other", "{seen}");
        let texts = seen["tables"].to_string();
        assert!(texts.contains(r#"/usr/share/<b>&\"'name"#), "{seen}");
        // The bar of the lowest layer: a sliver that shows, the rest wasted; the next one is shorter.
        let bars = seen["bars"].as_array().unwrap();
        let part = |bar: usize, part: usize| bars[bar][part].as_f64().unwrap();
        assert!(part(0, 0) < 0.05 && part(0, 1) > 0.95, "{seen}");
        assert!(
            (0.1..0.2).contains(&part(1, 0)) && part(1, 1) == 0.0,
            "{seen}"
        );
    }
}

//! What an image says of how its layers were made.

use serde_json::Value;
use varve_image::oci::ContainerImage;

/// The command behind each layer, lowest first, as somebody wrote it; empty if the configuration does not
/// tell one for each.
pub(crate) fn commands(image: &ContainerImage) -> Vec<String> {
    let history = image.config.get("history").and_then(Value::as_array);
    let made_one = |entry: &&Value| entry.get("empty_layer").and_then(Value::as_bool) != Some(true);
    let told: Vec<_> = history.into_iter().flatten().filter(made_one).collect();
    if told.len() != image.layers.len() {
        return Vec::new();
    }
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    told.into_iter()
        .map(|entry| {
            let by = text(entry, "created_by").filter(|text| !text.is_empty());
            as_written(&by.or_else(|| text(entry, "comment")).unwrap_or_default())
        })
        .collect()
}

/// Builders put their own words round a line of a Dockerfile.
fn as_written(command: &str) -> String {
    let command = command.trim();
    let shell = "/bin/sh -c ";
    let line = match command.strip_prefix(shell) {
        Some(rest) => match rest.trim_start().strip_prefix("#(nop)") {
            Some(instruction) => instruction.trim().to_owned(),
            None => format!("RUN {}", rest.trim()),
        },
        None => match command.strip_prefix("RUN /bin/sh -c ") {
            Some(rest) => format!("RUN {rest}"),
            None => command.to_owned(),
        },
    };
    let line = line.strip_suffix("# buildkit").unwrap_or(&line).trim();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::as_written;

    #[test]
    fn commands_are_those_of_the_dockerfile() {
        for (told, expected) in [
            ("/bin/sh -c #(nop)  CMD [\"bash\"]", "CMD [\"bash\"]"),
            (
                "/bin/sh -c apt-get  update\t&& true",
                "RUN apt-get update && true",
            ),
            ("RUN /bin/sh -c make # buildkit", "RUN make"),
            ("COPY . /app # buildkit", "COPY . /app"),
            ("", ""),
        ] {
            assert_eq!(as_written(told), expected);
        }
    }
}

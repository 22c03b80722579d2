//! Where pictures were taken, as far as their contributors said: one line a picture for a spreadsheet (CSV) or a
//! map (GeoJSON, RFC 7946). Written row by row, so that its length can be counted by a first pass.

use super::catalogue::{Scope, each_of};
use super::manifest::{Row, disarm};
use anyhow::{Context, Result};
use std::io::Write;
use std::path::Path;

/// Writes the positions in `scope` as CSV. No cell can be taken for a formula.
pub fn write_csv(root: &Path, scope: &Scope, out: &mut dyn Write) -> Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    let columns = ["latitude", "longitude", "submitted_at", "team", "contributor", "note", "file", "sha256"];
    writer.write_record(columns).context("could not write the positions")?;
    each_of(root, scope, &mut |day, row| {
        let Some((latitude, longitude)) = position(&row) else { return Ok(()) };
        let cells = [
            latitude.to_string(),
            longitude.to_string(),
            disarm(&row.submitted_at),
            disarm(&row.team),
            disarm(&row.contributor),
            disarm(&row.note),
            format!("{day}/{}", row.file),
            disarm(&row.sha256),
        ];
        writer.write_record(cells).context("could not write the positions")
    })?;
    writer.flush().context("could not write the positions")
}

/// Writes the positions in `scope` as a GeoJSON FeatureCollection.
pub fn write_geojson(root: &Path, scope: &Scope, out: &mut dyn Write) -> Result<()> {
    out.write_all(b"{\"type\":\"FeatureCollection\",\"features\":[")
        .context("could not write the positions")?;
    let mut separator = "\n";
    each_of(root, scope, &mut |day, row| {
        let Some((latitude, longitude)) = position(&row) else { return Ok(()) };
        let feature = serde_json::json!({
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [longitude, latitude]},
            "properties": {
                "file": format!("{day}/{}", row.file),
                "submitted_at": row.submitted_at,
                "team": row.team,
                "contributor": row.contributor,
                "note": row.note,
                "sha256": row.sha256,
            },
        });
        let written = write!(out, "{separator}{feature}");
        separator = ",\n";
        written.context("could not write the positions")
    })?;
    out.write_all(b"\n]}\n").context("could not write the positions")
}

/// Degrees, latitude first, if the row has a position that can be one.
fn position(row: &Row) -> Option<(f64, f64)> {
    let degrees = |text: &str, most: f64| text.parse().ok().filter(|degrees: &f64| degrees.abs() <= most);
    Some((degrees(&row.latitude, 90.0)?, degrees(&row.longitude, 180.0)?))
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::scope;
    use super::super::manifest::{MANIFEST_FILE, header_line};
    use super::*;

    #[test]
    fn positions_are_safe_for_spreadsheets_and_right_for_maps() {
        let folder = tempfile::tempdir().unwrap();
        let day = folder.path().join("2026-11-21");
        std::fs::create_dir(&day).unwrap();
        let row = |latitude: &str, longitude: &str, note: &str| Row {
            file: "a.jpg".into(),
            latitude: latitude.into(),
            longitude: longitude.into(),
            note: note.into(),
            ..Row::default()
        };
        let rows = [
            row("-33.8", "151.2", "=HYPERLINK(\"x\")"),
            row("", "", "nowhere"),
            row("NaN", "1", "no number"),
            row("91", "1", "beyond the pole"),
            row("31.25", "-121.5", "two\"quotes"),
        ];
        let lines: String = rows.iter().map(|row| row.to_line().unwrap()).collect();
        std::fs::write(day.join(MANIFEST_FILE), header_line().unwrap() + &lines).unwrap();
        let all = scope(folder.path(), None, None).unwrap();
        let mut csv = Vec::new();
        write_csv(folder.path(), &all, &mut csv).unwrap();
        let csv = String::from_utf8(csv).unwrap();
        assert_eq!(csv.lines().count(), 3);
        assert!(csv.contains("\n-33.8,151.2,,,,\"'=HYPERLINK(\"\"x\"\")\",2026-11-21/a.jpg,"), "{csv}");
        let mut geojson = Vec::new();
        write_geojson(folder.path(), &all, &mut geojson).unwrap();
        let geojson: serde_json::Value = serde_json::from_slice(&geojson).unwrap();
        assert_eq!(geojson["features"][0]["geometry"]["coordinates"], serde_json::json!([151.2, -33.8]));
        assert_eq!(geojson["features"][1]["properties"]["note"], "two\"quotes");
        assert_eq!(geojson["features"].as_array().unwrap().len(), 2);
        // Nothing to tell is still a whole document.
        let none = scope(folder.path(), None, Some("nobody")).unwrap();
        let mut empty = Vec::new();
        write_geojson(folder.path(), &none, &mut empty).unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&empty).unwrap()["features"][0].is_null());
    }
}

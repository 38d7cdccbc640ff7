//! What users saw, as a drawing.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, ChartBuilder, Color, DrawingArea, DrawingBackend, IntoDrawingArea, IntoFont,
    LabelAreaPosition, PathElement, RGBColor, Rectangle, SVGBackend, Text, WHITE,
};
use session_benches::Failure;

use crate::timeline::{SLICE, Seen, Slice, Timeline};

/// Draws the answers of each node over time, and the marks, into an SVG file.
pub(crate) fn draw(file: &Path, title: &str, timeline: &Timeline) -> Result<(), Failure> {
    let height = HEAD + ROW * timeline.nodes() as u32 + FOOT;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    paint(&root, title, timeline).map_err(|error| format!("{}: {error}", file.display()))?;
    root.present().map_err(|error| format!("{}: {error}", file.display()).into())
}

type Painted<B> =
    Result<(), plotters::drawing::DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

fn paint<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    title: &str,
    timeline: &Timeline,
) -> Painted<B> {
    root.fill(&WHITE)?;
    let (head, body) = root.split_vertically(HEAD);
    legend(&head, title)?;
    let (rows, foot) = body.split_vertically(ROW * timeline.nodes() as u32);
    for (node, area) in rows.split_evenly((timeline.nodes(), 1)).iter().enumerate() {
        node_row(area, node, timeline)?;
    }
    let text = "seconds; each column has the answers of 100 ms";
    foot.draw(&Text::new(text, (LEFT as i32, 4), font(13)))
}

fn legend<B: DrawingBackend>(head: &DrawingArea<B, Shift>, title: &str) -> Painted<B> {
    head.draw(&Text::new(title.to_owned(), (LEFT as i32, 8), font(18)))?;
    for (n, seen) in Seen::ALL.into_iter().enumerate() {
        let x = LEFT as i32 + 110 * n as i32;
        head.draw(&Rectangle::new([(x, 36), (x + 12, 48)], color(seen).filled()))?;
        head.draw(&Text::new(seen.label(), (x + 18, 35), font(13)))?;
    }
    Ok(())
}

fn node_row<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    node: usize,
    timeline: &Timeline,
) -> Painted<B> {
    let slices = timeline.slices(node);
    let highest = slices.iter().map(|slice| slice.iter().sum()).max().unwrap_or(0_u32).max(1);
    let seconds = timeline.length() as f64 * SLICE.as_secs_f64();
    let mut chart = ChartBuilder::on(area)
        .margin_right(10)
        .margin_top(14)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, 18)
        .build_cartesian_2d(0.0..seconds, 0..highest)?;
    let name = format!("node {node}");
    chart.configure_mesh().disable_mesh().y_labels(3).x_labels(12).y_desc(name).draw()?;
    chart.draw_series(slices.iter().enumerate().flat_map(|(n, slice)| columns(n, slice)))?;
    for (what, at) in timeline.marks() {
        let x = at.as_secs_f64();
        chart.draw_series([PathElement::new([(x, 0), (x, highest)], BLACK)])?;
        if node == 0 {
            let place = chart.backend_coord(&(x, highest));
            let (left, top) = area.get_base_pixel();
            area.draw(&Text::new(*what, (place.0 - left + 2, place.1 - top - 14), font(12)))?;
        }
    }
    Ok(())
}

/// What was seen in one slice, one on the other.
fn columns(n: usize, slice: &Slice) -> Vec<Rectangle<(f64, u32)>> {
    let (left, right) = (n as f64 * SLICE.as_secs_f64(), (n + 1) as f64 * SLICE.as_secs_f64());
    let mut below = 0;
    let column = |seen: Seen| {
        let above = below + slice[seen as usize];
        let column = Rectangle::new([(left, below), (right, above)], color(seen).filled());
        below = above;
        column
    };
    Seen::ALL.map(column).into_iter().collect()
}

/// Colours that differ to most eyes, after Paul Tol.
const fn color(seen: Seen) -> RGBColor {
    match seen {
        Seen::Page => RGBColor(0x44, 0x77, 0xaa),
        Seen::Refused => RGBColor(0xbb, 0xbb, 0xbb),
        Seen::Unavailable => RGBColor(0xee, 0x99, 0x33),
        Seen::Nothing => RGBColor(0xaa, 0x22, 0x55),
    }
}

fn font(size: i32) -> plotters::prelude::FontDesc<'static> {
    ("sans-serif", size).into_font()
}

const WIDTH: u32 = 1000;
const HEAD: u32 = 62;
const ROW: u32 = 110;
const FOOT: u32 = 26;
/// For the labels at the left.
const LEFT: u32 = 70;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_every_node_and_mark() {
        let folder = std::env::temp_dir().join(format!("session-fleet-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("chart.svg");
        let mut timeline = Timeline::start(2);
        timeline.note(0, Seen::Page);
        timeline.note(1, Seen::Unavailable);
        timeline.mark("begins");
        draw(&file, "redis: stalled", &timeline).unwrap();
        let drawn = std::fs::read_to_string(&file).unwrap();
        for text in ["redis: stalled", "node 0", "node 1", "begins", "503", "#EE9933"] {
            assert!(drawn.contains(text), "{text}: {drawn}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! A bar chart of the throughput against native, as SVG.

use std::fmt::Write;

use crate::measure::Results;
use crate::subject::Subject;

const COLOURS: [&str; 4] = ["#4477aa", "#ee6677", "#228833", "#ccbb44"];
const BAR: usize = 14;
const GROUP_GAP: usize = 14;
const LEFT: usize = 230;
const WIDTH: usize = 420;
const TOP: usize = 60;

/// Draws it: one group of bars for each load, one bar for each subject, the native server at the line of 1.
pub fn throughput(results: &Results, subjects: &[Subject]) -> String {
    let compared: Vec<_> = subjects.iter().filter(|subject| subject.replicas > 0).collect();
    let loads = results.loads();
    let group = BAR * compared.len() + GROUP_GAP;
    let height = TOP + group * loads.len() + 30;
    let ratio = |load: &str, subject: Subject| results.ratio(load, subject, |sample| sample.outcome.rate);
    let all = loads.iter().flat_map(|load| compared.iter().filter_map(|subject| ratio(load, **subject)));
    let most = all.fold(1.0, f64::max) * 1.1;
    let x = |value: f64| LEFT as f64 + value / most * WIDTH as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\">Throughput, native = 1</text>\n",
        LEFT + WIDTH + 60
    );
    for (number, subject) in compared.iter().enumerate() {
        let left = LEFT + number * 140;
        let colour = COLOURS[number % COLOURS.len()];
        let _ = writeln!(svg, "<rect x=\"{left}\" y=\"32\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"42\">{}</text>", left + 18, subject.name);
    }
    for (row, load) in loads.iter().enumerate() {
        let top = TOP + row * group;
        let _ = writeln!(svg, "<text x=\"10\" y=\"{}\">{load}</text>", top + BAR * compared.len() / 2 + 4);
        for (number, subject) in compared.iter().enumerate() {
            let Some(value) = ratio(load, **subject) else { continue };
            let (y, colour) = (top + number * BAR, COLOURS[number % COLOURS.len()]);
            let width = x(value) - LEFT as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{value:.2}</text>",
                BAR - 2,
                x(value) + 4.0,
                y + BAR - 4
            );
        }
    }
    let line = x(1.0);
    let _ = writeln!(
        svg,
        "<line x1=\"{line:.1}\" x2=\"{line:.1}\" y1=\"{}\" y2=\"{}\" stroke=\"black\" stroke-dasharray=\"4 3\"/>\n</svg>",
        TOP - 6,
        height - 20
    );
    svg
}

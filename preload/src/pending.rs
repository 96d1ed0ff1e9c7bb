//! Operations until dmt has them.

use dmt::call::Call;

#[allow(missing_docs)]
pub trait Pending {
    fn log(&self, severity: u64, line: &[u8]);
}

impl Pending for Call<'_> {
    fn log(&self, _: u64, line: &[u8]) {
        let mut text = crate::fatal::Line::new();
        let _ = core::fmt::Write::write_str(&mut text, core::str::from_utf8(line).unwrap_or("?"));
        let _ = core::fmt::Write::write_str(&mut text, "\n");
        crate::fatal::print(&text);
    }
}

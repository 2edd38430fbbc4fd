//! The report as one HTML file: the text of the Markdown with the charts inside.
//!
//! It has no script and fetches nothing. HTML in the Markdown is shown as text.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

use super::chart::Chart;

/// A small style for light and dark; wide tables and charts scroll on their own.
const STYLE: &str = include_str!("report.css");

/// The page for a report and its charts.
pub(super) fn page(markdown: &str, charts: &[Chart]) -> String {
    let mut body = String::new();
    html::push_html(&mut body, events(markdown, charts).into_iter());
    let title = markdown.lines().next().unwrap_or_default().trim_start_matches('#').trim();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// The Markdown's events with pictures for images and boxes around tables.
fn events<'a>(markdown: &'a str, charts: &'a [Chart]) -> Vec<Event<'a>> {
    let mut events = Vec::new();
    // Within an image, its words: the chart has them itself.
    let mut inside_chart = false;
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Image { dest_url, .. }) => {
                inside_chart = true;
                events.extend(figure(&dest_url, charts));
            }
            Event::End(TagEnd::Image) => inside_chart = false,
            _ if inside_chart => {}
            Event::Start(Tag::Table(columns)) => {
                events.push(Event::Html("<div class=\"wide\">".into()));
                events.push(Event::Start(Tag::Table(columns)));
            }
            Event::End(TagEnd::Table) => {
                events.push(Event::End(TagEnd::Table));
                events.push(Event::Html("</div>\n".into()));
            }
            Event::Html(text) | Event::InlineHtml(text) => events.push(Event::Text(text)),
            other => events.push(other),
        }
    }
    events
}

fn figure<'a>(file: &CowStr<'a>, charts: &'a [Chart]) -> Option<Event<'a>> {
    let name = file.strip_suffix(".svg")?;
    let chart = charts.iter().find(|chart| chart.name == name)?;
    Some(Event::InlineHtml(format!("<span class=\"chart wide\">{}</span>", chart.svg.trim_end()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_in_the_text_is_shown_and_not_run() {
        let page = page("# a\n\nx <script>alert(1)</script>\n\n<img src=x>\n", &[]);
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;"), "{page}");
    }

    #[test]
    fn tables_have_a_box_to_scroll_in() {
        let page = page("# a\n\n| x |\n|--:|\n| 1 |\n", &[]);
        assert!(page.contains("<div class=\"wide\"><table>"), "{page}");
        assert!(page.contains("text-align: right"), "{page}");
    }
}

//! Pages as a browser parses them.

pub use scraper::{ElementRef, Html, Selector};

/// Returns the elements that a CSS selector matches, in the order of the page.
pub fn select<'page>(page: &'page Html, selector: &str) -> Vec<ElementRef<'page>> {
    page.select(&Selector::parse(selector).unwrap()).collect()
}

/// Returns the text of an element, with each run of white space as one space.
pub fn text_of(element: ElementRef<'_>) -> String {
    let text: String = element.text().collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the names of an element and of all that it is in, from the inside to the outside.
pub fn names_of<'page>(element: ElementRef<'page>) -> impl Iterator<Item = &'page str> {
    let around = element.ancestors().filter_map(ElementRef::wrap);
    std::iter::once(element)
        .chain(around)
        .map(|element| element.value().name())
}

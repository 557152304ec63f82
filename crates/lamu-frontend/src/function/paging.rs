//! Pages of sorted items: `Marker`, `MaxItems`, `NextMarker`.
//!
//! A marker is the key of the last item shown, so items may come and go
//! between two pages and nothing else is skipped or shown twice.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The service returns at most this many functions, versions or aliases,
/// whatever is asked.
pub const PAGE_MAX: usize = 50;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// A marker that no page gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMarker;

/// The key behind a marker; none for the first page.
pub fn read_marker(marker: Option<&str>) -> Result<Option<String>, BadMarker> {
    let Some(marker) = marker.filter(|marker| !marker.is_empty()) else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(marker).map_err(|_| BadMarker)?;
    String::from_utf8(bytes).map(Some).map_err(|_| BadMarker)
}

/// The marker of the page that ended with this key.
pub fn marker(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// The most items of a page for what was asked.
pub fn items_max(asked: Option<i32>) -> usize {
    asked.and_then(|max| usize::try_from(max).ok()).unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX)
}

/// The items after `after`, in the order of their keys. `items` is sorted.
pub fn page<T>(
    items: impl Iterator<Item = (String, T)>,
    after: Option<&str>,
    max: Option<i32>,
) -> Page<T> {
    page_of(items, after, max, PAGE_MAX)
}

/// The same, with at most `page_max` items whatever is asked.
pub fn page_of<T>(
    items: impl Iterator<Item = (String, T)>,
    after: Option<&str>,
    max: Option<i32>,
    page_max: usize,
) -> Page<T> {
    let max = max.and_then(|max| usize::try_from(max).ok()).unwrap_or(page_max).clamp(1, page_max);
    let mut items = items.skip_while(|(key, _)| after.is_some_and(|after| key.as_str() <= after));
    let mut page = Page { items: Vec::new(), next: None };
    let mut last = String::new();
    for (key, item) in items.by_ref().take(max) {
        page.items.push(item);
        last = key;
    }
    if items.next().is_some() {
        page.next = Some(marker(&last));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(count: usize) -> impl Iterator<Item = (String, usize)> {
        (0..count).map(|i| (format!("{i:04}"), i))
    }

    #[test]
    fn pages_cover_everything_once() {
        let mut seen = Vec::new();
        let mut marker = None;
        loop {
            let after = read_marker(marker.as_deref()).unwrap();
            let page = page(items(7), after.as_deref(), Some(3));
            assert!(page.items.len() <= 3);
            seen.extend(page.items);
            match page.next {
                Some(next) => marker = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, (0..7).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_full_page_has_no_marker() {
        assert_eq!(page(items(3), None, Some(3)).next, None);
        assert_eq!(page(items(0), None, None).next, None);
    }

    #[test]
    fn no_page_is_longer_than_the_service_makes_them() {
        assert_eq!(page(items(200), None, Some(10_000)).items.len(), PAGE_MAX);
        assert_eq!(page(items(200), None, None).items.len(), PAGE_MAX);
    }

    #[test]
    fn a_marker_survives_the_removal_of_its_item() {
        let rest = items(5).filter(|(_, i)| *i != 2);
        assert_eq!(page(rest, Some("0002"), None).items, [3, 4]);
    }

    #[test]
    fn a_marker_of_ones_own_making_is_refused() {
        assert_eq!(read_marker(Some("!!")), Err(BadMarker));
        assert_eq!(read_marker(Some("")), Ok(None));
    }
}

//! The uploaded pictures, in memory and bounded: the oldest go first when there are too many bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// WeChat deletes a picture this long after its upload.
pub const PICTURE_LIFE: Duration = Duration::from_secs(3 * 24 * 3600);
/// What the developer tools answer to every upload; never fetchable.
pub const DEVTOOLS_MEDIA_ID: &str = "1237378768e7q8e7r8qwesafdasdfasdfaxss111";

/// One picture.
#[derive(Clone)]
pub struct Picture {
    /// The bytes, as uploaded.
    pub bytes: Arc<Vec<u8>>,
    /// As the uploader named it.
    pub content_type: String,
    uploaded_at: Duration,
}

/// All pictures.
pub struct PictureStore {
    bytes_max: usize,
    bytes_held: usize,
    by_id: HashMap<String, Picture>,
    order: VecDeque<String>,
    for_any_id: Option<Picture>,
}

impl PictureStore {
    /// An empty store that holds at most `bytes_max` (but always the newest picture).
    pub fn new(bytes_max: usize) -> PictureStore {
        let (by_id, order) = (HashMap::new(), VecDeque::new());
        PictureStore { bytes_max, bytes_held: 0, by_id, order, for_any_id: None }
    }

    /// Keeps a picture under `media_id`, in place of one that had this id.
    pub fn insert(&mut self, media_id: &str, bytes: Arc<Vec<u8>>, content_type: &str, now: Duration) {
        if self.by_id.contains_key(media_id) {
            self.order.retain(|other| other != media_id);
            self.remove(media_id);
        }
        self.bytes_held += bytes.len();
        let picture = Picture { bytes, content_type: content_type.to_owned(), uploaded_at: now };
        self.by_id.insert(media_id.to_owned(), picture);
        self.order.push_back(media_id.to_owned());
        while self.bytes_held > self.bytes_max && self.order.len() > 1 {
            if let Some(oldest) = self.order.pop_front() {
                self.remove(&oldest);
            }
        }
    }

    /// From now on an id that nobody uploaded is answered with this picture: for drills with more ids than
    /// memory. `None` ends it.
    pub fn answer_any_id(&mut self, picture: Option<(Vec<u8>, String)>) {
        self.for_any_id = picture.map(|(bytes, content_type)| Picture {
            bytes: Arc::new(bytes),
            content_type,
            uploaded_at: Duration::MAX,
        });
    }

    /// The picture, while WeChat would still have it.
    pub fn fetch(&self, media_id: &str, now: Duration) -> Option<Picture> {
        if media_id == DEVTOOLS_MEDIA_ID {
            return None;
        }
        let found = self.by_id.get(media_id);
        let alive = |picture: &&Picture| now.saturating_sub(picture.uploaded_at) < PICTURE_LIFE;
        match found {
            Some(_) => found.filter(alive).cloned(),
            None => self.for_any_id.clone().filter(|_| looks_like_a_media_id(media_id)),
        }
    }

    /// The picture, dead or alive.
    pub fn uploaded(&self, media_id: &str) -> Option<&Picture> {
        self.by_id.get(media_id)
    }

    /// All ids, oldest first.
    pub fn media_ids(&self) -> Vec<String> {
        self.order.iter().cloned().collect()
    }

    fn remove(&mut self, media_id: &str) {
        if let Some(gone) = self.by_id.remove(media_id) {
            self.bytes_held -= gone.bytes.len();
        }
    }
}

fn looks_like_a_media_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let mut store = PictureStore::new(10);
        for id in ["a", "b", "c"] {
            store.insert(id, Arc::new(vec![0; 4]), "image/png", Duration::ZERO);
        }
        assert_eq!(store.media_ids(), ["b", "c"]);
        store.insert("b", Arc::new(vec![0; 40]), "image/png", Duration::ZERO);
        assert_eq!(store.media_ids(), ["b"]);
        assert_eq!(store.bytes_held, 40);
    }

    #[test]
    fn a_picture_lives_three_days_and_a_fake_id_never() {
        let mut store = PictureStore::new(99);
        store.insert("a", Arc::new(vec![1]), "image/png", Duration::from_secs(5));
        store.insert(DEVTOOLS_MEDIA_ID, Arc::new(vec![1]), "image/png", Duration::from_secs(5));
        let end = Duration::from_secs(5) + PICTURE_LIFE;
        assert!(store.fetch("a", end - Duration::from_millis(1)).is_some());
        assert!(store.fetch("a", end).is_none());
        assert!(store.uploaded("a").is_some());
        assert!(store.fetch(DEVTOOLS_MEDIA_ID, Duration::ZERO).is_none());
        store.answer_any_id(Some((vec![9], "image/png".into())));
        assert!(store.fetch("x", end).is_some());
        assert!(store.fetch("x y", end).is_none());
        assert!(store.fetch("a", end).is_none());
    }
}

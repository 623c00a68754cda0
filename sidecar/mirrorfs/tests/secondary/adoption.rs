//! A deleted module's data, taken over under a new UID: on purpose, all or nothing, and repeatable at any point.

use std::fs;
use std::path::{Path, PathBuf};

use _mirrorfs::adoption::{AdoptionError, adopt};
use _mirrorfs::engine::{Engine, EngineError};
use _mirrorfs::marker::{self, MarkerError};
use _mirrorfs::record::{Record, RecordError, Store};
use tempfile::TempDir;

const OLD: &str = "11111111-0000-4000-8000-000000000000";
const NEW: &str = "22222222-0000-4000-8000-000000000000";
const OTHER: &str = "33333333-0000-4000-8000-000000000000";

/// A node's directory with two volumes, as the module `OLD` left it.
struct Kept {
    directory: TempDir,
    record: Record,
}

impl Kept {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("state"), OLD, "a").unwrap();
        store.create(Record::initial(OLD, "a").unwrap()).unwrap();
        let record = store
            .update(|record| {
                record.alone = true;
                record.begin_generation()
            })
            .unwrap();
        let kept = Self { directory, record };
        for backing in kept.backings() {
            fs::create_dir_all(&backing).unwrap();
            marker::set(&backing, OLD).unwrap();
        }
        kept
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn backings(&self) -> [PathBuf; 2] {
        ["data", "log"].map(|name| self.directory.path().join(name))
    }

    fn adopt(&self, old: &str) -> Result<bool, AdoptionError> {
        let backings = self.backings();
        adopt(&self.state(), &backings.each_ref().map(PathBuf::as_path), "a", old, NEW)
    }

    fn markers(&self) -> [Option<String>; 2] {
        self.backings().map(|backing| marker::read(&backing).unwrap())
    }

    fn assert_adopted(&self) {
        let record = Store::open(&self.state(), NEW, "a").unwrap().get().unwrap();
        assert_eq!(record, Record { module: NEW.to_owned(), ..self.record.clone() });
        assert_eq!(self.markers(), [NEW, NEW].map(|uid| Some(uid.to_owned())));
    }

    fn assert_untouched(&self) {
        let record = Store::open(&self.state(), OLD, "a").unwrap().get().unwrap();
        assert_eq!(record, self.record);
        assert_eq!(self.markers()[0].as_deref(), Some(OLD));
    }

    fn document(&self, uid: &str, old: Option<&str>) -> String {
        let volume = |path: &Path, name: &str| serde_json::json!({"name": name, "backing": path, "mountpoint": self.directory.path().join("mnt").join(name)});
        let [data, log] = self.backings();
        serde_json::json!({
            "module": "ns/m", "uid": uid, "adopt": old, "node": "a", "peer": "b", "state_dir": self.state(),
            "quarantine_dir": self.directory.path().join("quarantine"),
            "volumes": [volume(&data, "data"), volume(&log, "log")],
            "listen": ["127.0.0.1:1"], "connect": ["127.0.0.1:2"], "durability": "write",
            "key_hex": "000102030405060708090a0b0c0d0e0f",
        })
        .to_string()
    }
}

#[test]
fn markers_and_record_get_the_new_uid_and_the_generations_stay() {
    let kept = Kept::new();
    assert!(kept.adopt(OLD).unwrap());
    kept.assert_adopted();
    assert!(!kept.adopt(OLD).unwrap());
    kept.assert_adopted();
}

#[test]
fn an_adoption_that_was_interrupted_anywhere_is_completed_by_the_next() {
    for replaced in 0..=2 {
        let kept = Kept::new();
        for backing in &kept.backings()[..replaced] {
            marker::replace(backing, NEW).unwrap();
        }
        assert!(matches!(Store::open(&kept.state(), NEW, "a"), Err(RecordError::ForeignModule { .. })));
        assert!(kept.adopt(OLD).unwrap());
        kept.assert_adopted();
    }
}

#[test]
fn what_is_not_the_named_modules_is_left_alone_as_a_whole() {
    let kept = Kept::new();
    let wrong = kept.adopt(OTHER);
    assert!(
        matches!(&wrong, Err(AdoptionError::Record(RecordError::ForeignModule { found, .. })) if found == OLD),
        "{wrong:?}"
    );
    kept.assert_untouched();

    marker::replace(&kept.backings()[1], OTHER).unwrap();
    let wrong = kept.adopt(OLD);
    assert!(
        matches!(&wrong, Err(AdoptionError::Marker(MarkerError::Foreign { found, .. })) if found == OTHER),
        "{wrong:?}"
    );
    kept.assert_untouched();
}

#[test]
fn a_volume_that_is_not_mounted_keeps_the_others_from_being_adopted() {
    let kept = Kept::new();
    fs::remove_dir(&kept.backings()[1]).unwrap();
    assert!(matches!(kept.adopt(OLD), Err(AdoptionError::Marker(MarkerError::Missing { .. }))));
    fs::create_dir(&kept.backings()[1]).unwrap();
    assert!(matches!(kept.adopt(OLD), Err(AdoptionError::Marker(MarkerError::Missing { .. }))));
    kept.assert_untouched();
}

#[test]
fn a_node_without_data_has_nothing_to_adopt() {
    let directory = tempfile::tempdir().unwrap();
    let backing = directory.path().join("data");
    assert!(!adopt(&directory.path().join("state"), &[&backing], "a", OLD, NEW).unwrap());
    assert!(Store::open(&directory.path().join("state"), NEW, "a").unwrap().get().is_none());
}

#[test]
fn the_engine_adopts_only_what_it_is_told_to_and_says_so() {
    let kept = Kept::new();
    for told in [None, Some(OTHER)] {
        let refused = Engine::open(&kept.document(NEW, told)).err().unwrap();
        assert_eq!(refused.foreign_module(), Some(OLD), "{refused}");
        kept.assert_untouched();
    }
    for adopted in [serde_json::json!(OLD), serde_json::Value::Null] {
        let engine = Engine::open(&kept.document(NEW, Some(OLD))).unwrap();
        let record: serde_json::Value = serde_json::from_str(&engine.record().unwrap()).unwrap();
        assert_eq!(record["adopted"], adopted);
        assert_eq!(record["module"], NEW);
        engine.close();
    }
    kept.assert_adopted();
}

#[test]
fn nothing_is_adopted_while_the_deleted_modules_sidecar_still_runs() {
    let kept = Kept::new();
    let still_there = Engine::open(&kept.document(OLD, None)).unwrap();
    let refused = Engine::open(&kept.document(NEW, Some(OLD))).err().unwrap();
    assert!(matches!(refused, EngineError::InUse { .. }), "{refused}");
    kept.assert_untouched();
    still_there.close();
    Engine::open(&kept.document(NEW, Some(OLD))).unwrap();
    kept.assert_adopted();
}

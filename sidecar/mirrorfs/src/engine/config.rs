//! The engine's configuration, a JSON document from the sidecar.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::fs::Durability;
use crate::wire::handshake::Identity;

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("engine configuration: {0}")]
    Json(#[from] serde_json::Error),
    #[error("engine configuration, field {field}: {problem}")]
    Field { field: &'static str, problem: String },
}

/// One replicated volume.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeConfig {
    pub name: String,
    /// The directory that holds the files; only the sidecar may touch it.
    pub backing: PathBuf,
    /// Where the primary mounts the file system.
    pub mountpoint: PathBuf,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DurabilityName {
    Write,
    Commit,
}

/// `EngineConfig` of the Python face. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// `namespace/name`, for messages.
    pub module: String,
    pub uid: String,
    /// UID of the deleted module whose data on this node become this module's.
    #[serde(default)]
    pub adopt: Option<String>,
    pub node: String,
    pub peer: String,
    pub state_dir: PathBuf,
    pub volumes: Vec<VolumeConfig>,
    pub quarantine_dir: PathBuf,
    /// Addresses to listen on as secondary, one per link.
    pub listen: Vec<String>,
    /// The peer's addresses, one per link, tried in this order.
    pub connect: Vec<String>,
    /// The module's shared secret in hexadecimal, at least 16 bytes.
    pub key_hex: String,
    durability: DurabilityName,
    #[serde(default = "default_window_bytes")]
    pub window_bytes: usize,
    #[serde(default = "default_window_ops")]
    pub window_ops: usize,
    #[serde(default = "default_threads")]
    pub threads: usize,
    /// Take requests through io_uring where the kernel's administrator allows it (`fuse.enable_uring=1`).
    #[serde(default = "default_io_uring")]
    pub io_uring: bool,
    /// Contents compared per second during a resynchronisation; 0: no limit.
    #[serde(default)]
    pub resync_rate: u64,
    /// Length of the journal's file: about 80 bytes for each region that changed.
    #[serde(default = "default_journal_bytes")]
    pub journal_bytes: u64,
    /// Between two flushes of both nodes after which the journal forgets what it knew before.
    #[serde(default = "default_cooling")]
    pub journal_cooling_ms: u64,
    #[serde(default = "default_quarantine")]
    pub quarantine: bool,
    #[serde(default = "default_timeout")]
    pub connect_timeout_ms: u64,
    #[serde(default = "default_timeout")]
    pub peer_timeout_ms: u64,
}

fn default_window_bytes() -> usize {
    32 << 20
}

fn default_window_ops() -> usize {
    4096
}

fn default_threads() -> usize {
    4
}

fn default_io_uring() -> bool {
    true
}

fn default_journal_bytes() -> u64 {
    crate::journal::CAPACITY
}

fn default_cooling() -> u64 {
    60_000
}

fn default_quarantine() -> bool {
    true
}

fn default_timeout() -> u64 {
    1500
}

impl EngineConfig {
    /// Read and check it.
    ///
    /// # Errors
    /// Names the field and what to write instead.
    pub fn parse(document: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_str(document)?;
        let wrong = |field, problem: &str| Err(ConfigError::Field { field, problem: problem.to_owned() });
        if config.volumes.is_empty() {
            return wrong("volumes", "none; name at least one");
        }
        for (index, volume) in config.volumes.iter().enumerate() {
            if config.volumes[..index].iter().any(|other| other.name == volume.name || other.backing == volume.backing)
            {
                return wrong("volumes", "two have the same name or backing directory; each needs its own");
            }
            if !volume.backing.is_absolute() || !volume.mountpoint.is_absolute() {
                return wrong("volumes", "backing and mountpoint must be absolute paths");
            }
        }
        if config.window_bytes < 2 << 20 {
            return wrong("window_bytes", "less than 2 MiB, which the largest write needs");
        }
        if config.window_ops < 16 {
            return wrong("window_ops", "less than 16");
        }
        if !(16 << 10..=1 << 30).contains(&config.journal_bytes) {
            return wrong("journal_bytes", "not between 16 KiB and 1 GiB");
        }
        if config.peer_timeout_ms < 100 || config.connect_timeout_ms < 10 {
            return wrong("peer_timeout_ms", "less than 100 (or connect_timeout_ms less than 10)");
        }
        config.identity()?;
        config.addresses("listen", &config.listen)?;
        config.addresses("connect", &config.connect)?;
        Ok(config)
    }

    pub fn durability(&self) -> Durability {
        match self.durability {
            DurabilityName::Write => Durability::Write,
            DurabilityName::Commit => Durability::Commit,
        }
    }

    pub fn peer_timeout(&self) -> Duration {
        Duration::from_millis(self.peer_timeout_ms)
    }

    pub fn journal_cooling(&self) -> Duration {
        Duration::from_millis(self.journal_cooling_ms)
    }

    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    /// Who this node is in a handshake.
    pub fn identity(&self) -> Result<Identity, ConfigError> {
        Ok(Identity {
            module_name: self.module.clone(),
            module: self.uid.clone(),
            node: self.node.clone(),
            peer: self.peer.clone(),
            key: self.key()?,
        })
    }

    fn key(&self) -> Result<Vec<u8>, ConfigError> {
        let digits = self.key_hex.as_bytes();
        let bytes = digits.chunks(2).map(|pair| {
            let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
            u8::from_str_radix(text, 16).ok()
        });
        match bytes.collect::<Option<Vec<u8>>>() {
            Some(key) if key.len() >= 16 => Ok(key),
            _ => Err(ConfigError::Field {
                field: "key_hex",
                problem: "not at least 32 hexadecimal digits, an even number of them".to_owned(),
            }),
        }
    }

    pub fn listen_addresses(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        self.addresses("listen", &self.listen)
    }

    pub fn peer_addresses(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        self.addresses("connect", &self.connect)
    }

    fn addresses(&self, field: &'static str, texts: &[String]) -> Result<Vec<SocketAddr>, ConfigError> {
        let parse = |text: &String| {
            text.parse().map_err(|_| ConfigError::Field {
                field,
                problem: format!("{text:?} is not an address and port; write 192.0.2.1:7401 or [2001:db8::1]:7401"),
            })
        };
        texts.iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut value = serde_json::json!({
            "module": "ns/m", "uid": "u", "node": "a", "peer": "b", "state_dir": "/s", "quarantine_dir": "/q",
            "volumes": [{"name": "data", "backing": "/v/data", "mountpoint": "/m/data"}],
            "listen": ["127.0.0.1:1"], "connect": ["[::1]:2"], "durability": "write",
            "key_hex": "000102030405060708090a0b0c0d0e0f",
        });
        change(&mut value);
        value.to_string()
    }

    fn problem(change: impl FnOnce(&mut serde_json::Value)) -> String {
        EngineConfig::parse(&document(change)).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_whole_document_is_accepted_with_defaults() -> Result<(), ConfigError> {
        let config = EngineConfig::parse(&document(|_| ()))?;
        assert_eq!(config.window_bytes, 32 << 20);
        assert_eq!(config.identity()?.key.len(), 16);
        Ok(())
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert!(problem(|v| v["key_hex"] = "zz".into()).contains("field key_hex"));
        assert!(problem(|v| v["listen"] = serde_json::json!(["nowhere"])).contains("field listen: \"nowhere\""));
        assert!(problem(|v| v["volumes"] = serde_json::json!([])).contains("field volumes"));
        assert!(problem(|v| v["durability"] = "never".into()).contains("never"));
        assert!(problem(|v| v["surprise"] = 1.into()).contains("surprise"));
    }
}

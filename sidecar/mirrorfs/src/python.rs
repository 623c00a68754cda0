//! The Python face: `twinhull_sidecar._mirrorfs`, documented in `_mirrorfs.pyi`.

use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;

use crate::engine::{Engine, EngineError};

create_exception!(twinhull_sidecar._mirrorfs, MirrorfsError, PyException);

impl From<EngineError> for PyErr {
    fn from(error: EngineError) -> Self {
        let raised = MirrorfsError::new_err(error.to_string());
        if let Some(found) = error.foreign_module() {
            // Without the attribute the text still says it.
            let _ = Python::attach(|py| raised.value(py).setattr("foreign_module", found));
        }
        raised
    }
}

#[pyclass(name = "Engine", module = "twinhull_sidecar._mirrorfs", frozen)]
struct PyEngine(Engine);

#[pymethods]
impl PyEngine {
    #[new]
    fn new(py: Python<'_>, config: &str) -> PyResult<Self> {
        Ok(Self(py.detach(|| Engine::open(config))?))
    }

    fn record(&self, py: Python<'_>) -> PyResult<String> {
        Ok(py.detach(|| self.0.record())?)
    }

    fn initialise(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.initialise())?)
    }

    fn start_primary(&self, py: Python<'_>, alone: bool) -> PyResult<()> {
        Ok(py.detach(|| self.0.start_primary(alone))?)
    }

    fn go_alone(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.go_alone())?)
    }

    fn stop_primary(&self, py: Python<'_>, timeout: f64) -> PyResult<String> {
        let timeout = Duration::try_from_secs_f64(timeout)
            .map_err(|_| PyValueError::new_err("timeout: not a number of seconds from 0 on"))?;
        Ok(to_json(&py.detach(|| self.0.stop_primary(timeout))?))
    }

    fn abort_primary(&self, py: Python<'_>) {
        py.detach(|| self.0.abort_primary());
    }

    fn start_secondary(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.start_secondary())?)
    }

    fn stop_secondary(&self, py: Python<'_>) -> PyResult<String> {
        Ok(to_json(&py.detach(|| self.0.stop_secondary())?))
    }

    fn renew_lease(&self, py: Python<'_>, until_ns: u64) {
        py.detach(|| self.0.renew_lease(until_ns));
    }

    fn fence(&self) {
        self.0.fence();
    }

    fn resync(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.resync())?)
    }

    fn verify(&self, py: Python<'_>, repair: bool) -> PyResult<()> {
        Ok(py.detach(|| self.0.verify(repair))?)
    }

    fn stop_verify(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.stop_verify())?)
    }

    fn allow_discard(&self, py: Python<'_>, peer_generation: String) -> PyResult<()> {
        Ok(py.detach(|| self.0.allow_discard(peer_generation))?)
    }

    fn status(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.status())
    }

    fn event_fd(&self) -> i32 {
        self.0.event_fd()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

fn to_json(value: &impl serde::Serialize) -> String {
    // Plain structures of booleans and strings: it cannot fail.
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

/// Differences between two trees (names, types, contents, attributes, links, holes), one line each; empty: equal.
#[pyfunction]
fn compare_trees(py: Python<'_>, a: std::path::PathBuf, b: std::path::PathBuf) -> PyResult<Vec<String>> {
    Ok(py.detach(|| crate::tree::compare_trees(&a, &b))?)
}

#[pymodule]
fn _mirrorfs(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyEngine>()?;
    module.add_function(wrap_pyfunction!(compare_trees, module)?)?;
    module.add("MirrorfsError", module.py().get_type::<MirrorfsError>())
}

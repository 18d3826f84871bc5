//! Secrets come from a file or the environment, never from the configuration itself.

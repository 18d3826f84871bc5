//! Tests of the whole: the shape of the workspace, the command line, the server, crashes.

mod bad_input;
mod crash;
mod server;
mod shape;

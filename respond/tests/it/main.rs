//! Orders at their boundary: alerts in; rows in the logs, entries in the deny list and signed messages out.

mod crash;
mod evidence;
mod http;
mod orders;
mod persons;
mod receiver;
mod run;
mod switch;
mod world;

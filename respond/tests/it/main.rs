//! Orders at their boundary: alerts in; rows in the logs, entries in the deny list and signed messages out.

mod counts;
mod crash;
mod doors;
mod evidence;
mod faults;
mod grpc;
mod http;
mod orders;
mod persons;
mod receiver;
mod rehearsal;
mod run;
mod signals;
mod streams;
mod stub;
mod switch;
mod world;

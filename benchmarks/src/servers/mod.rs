//! The servers, one a file.

pub mod apache;
pub mod clamd;
pub mod gerbera;
pub mod ledger;
pub mod mariadb;
pub mod memcached;
pub mod memcached_udp;
pub mod nginx;
pub mod postgres;
pub mod redis;

//! A self-healing layer-4 load balancer: so far, the mappings from keys to slots.

pub mod ring;

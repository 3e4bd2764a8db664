//! Tests of the relay against a real server.

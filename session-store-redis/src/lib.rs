//! Empty: the Redis store (single and Cluster) is not written yet.

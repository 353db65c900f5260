"""Fuzzing of everything that parses foreign bytes: targets, and two engines that try to break them."""

"""Mistakes made on purpose, to see whether the doctor names them and leaves the healthy run beside them in peace."""

from volumen.doctor.benchmark.case_study import ROWS, Bench, Row

__all__ = ["ROWS", "Bench", "Row"]

"""An index that other programs and people ask over HTTP: `dml serve`."""

"""Pure types of the OCI image and distribution specs: text and JSON in, values out, no I/O."""

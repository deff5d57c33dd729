"""Finds faces in frames, crops them, encodes and decodes their pictures. The only importer of dlib."""

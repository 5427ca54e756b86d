// Names, offsets and sizes of the records' fields.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace poco {

struct FieldLayout {
  const char* name;
  size_t offset, bytes;
};

struct RecordLayout {
  const char* name;
  size_t bytes;
  std::vector<FieldLayout> fields;
};

const std::vector<RecordLayout>& layouts();

// FNV-1a over names, offsets and sizes: two builds share memory only if it agrees.
uint64_t layout_hash();

}  // namespace poco

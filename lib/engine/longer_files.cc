#include "engine/longer_files.h"

#include "core/log.h"
#include "metadata/layout.h"

namespace clonedev {

LongerFiles::LongerFiles(FileDevice& destination, FileDevice& metadata)
    : destination_(destination),
      metadata_(metadata),
      destination_before_(destination.file().size()),
      metadata_before_(metadata.file().size()) {}

Result<LongerFiles> LongerFiles::make(FileDevice& destination, FileDevice& metadata,
                                      std::uint64_t size_bytes) {
  LongerFiles longer(destination, metadata);
  auto done = destination.lengthen(size_bytes);
  if (done) done = metadata.grow(units_for(size_bytes) * kUnitBytes);
  if (done) return longer;
  longer.undo();
  return fail(done.error());
}

void LongerFiles::undo() {
  for (const auto& cut : {destination_.cut(destination_before_), metadata_.cut(metadata_before_)}) {
    if (!cut) log_line(LOG_WARNING, "what was added to grow stays: {}", cut.error().message());
  }
}

}  // namespace clonedev

#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace llm_proxy {

// The keys clients may use. Immutable; compared in constant time: how long it takes tells neither a
// key nor its length.
class ClientKeys {
 public:
  static constexpr std::size_t kMaxLength = 255;

  // An Error when one is empty or longer than kMaxLength.
  static Result<ClientKeys> build(const std::vector<std::string>& keys);

  bool empty() const { return keys_.empty(); }
  std::size_t size() const { return keys_.size(); }
  bool contains(std::string_view key) const;

 private:
  // The key, zero-padded, its length in the last byte.
  using Padded = std::array<unsigned char, kMaxLength + 1>;
  static Padded padded(std::string_view key);

  std::vector<Padded> keys_;
};

}  // namespace llm_proxy

#include "auth/client_keys.h"

#include <openssl/crypto.h>

#include <algorithm>

namespace llm_proxy {

Result<ClientKeys> ClientKeys::build(const std::vector<std::string>& keys) {
  ClientKeys out;
  for (const auto& key : keys) {
    if (key.empty() || key.size() > kMaxLength) {
      return Error{ErrorKind::malformed_request, "client_keys: a key must have 1 to " +
                                                     std::to_string(kMaxLength) + " characters"};
    }
    out.keys_.push_back(padded(key));
  }
  return out;
}

ClientKeys::Padded ClientKeys::padded(std::string_view key) {
  Padded out{};
  std::copy(key.begin(), key.end(), out.begin());
  out.back() = static_cast<unsigned char>(key.size());
  return out;
}

bool ClientKeys::contains(std::string_view key) const {
  if (key.size() > kMaxLength) return false;
  const auto given = padded(key);
  int found = 0;  // every key is looked at, whichever matches
  for (const auto& known : keys_)
    found |= CRYPTO_memcmp(given.data(), known.data(), known.size()) == 0;
  return found != 0;
}

}  // namespace llm_proxy

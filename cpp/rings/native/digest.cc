#include "rings/native/digest.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <array>
#include <exception>
#include <initializer_list>
#include <memory>

namespace llm_proxy {
namespace {

using Digest = std::array<unsigned char, SHA256_DIGEST_LENGTH>;

std::string hex(const Digest& digest, std::size_t bytes) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  out.reserve(2 * bytes);
  for (std::size_t i = 0; i < bytes; ++i) {
    out += kHex[digest[i] >> 4];
    out += kHex[digest[i] & 15];
  }
  return out;
}

// Of the pieces, one behind the other.
Digest sha256(std::initializer_list<std::string_view> pieces) {
  // Looking an algorithm up costs more than hashing a kilobyte: once per process and thread.
  static const EVP_MD* const algorithm = [] {
    const EVP_MD* const found = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    return found != nullptr ? found : EVP_sha256();
  }();
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  thread_local const std::unique_ptr<EVP_MD_CTX, Free> context(EVP_MD_CTX_new());
  Digest digest{};
  bool hashed = EVP_DigestInit_ex(context.get(), algorithm, nullptr) == 1;
  for (const auto piece : pieces) {
    hashed = hashed && EVP_DigestUpdate(context.get(), piece.data(), piece.size()) == 1;
  }
  // Two different texts must never have one key.
  if (!hashed || EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1) std::terminate();
  return digest;
}

}  // namespace

std::string sha256_hex(std::string_view text, std::size_t bytes) {
  return hex(sha256({text}), bytes);
}

// RFC 2104; the library's own looks its parts up anew for each.
std::string hmac_sha256_hex(std::string_view key, std::string_view text, std::size_t bytes) {
  constexpr std::size_t kBlock = 64;
  std::string short_key(key);
  if (key.size() > kBlock) {
    const Digest digest = sha256({key});
    short_key.assign(digest.begin(), digest.end());
  }
  std::string inner(kBlock, '\x36'), outer(kBlock, '\x5c');
  for (std::size_t i = 0; i < short_key.size(); ++i) {
    inner[i] = static_cast<char>(inner[i] ^ short_key[i]);
    outer[i] = static_cast<char>(outer[i] ^ short_key[i]);
  }
  const Digest digest = sha256({inner, text});
  const std::string_view seen(reinterpret_cast<const char*>(digest.data()), digest.size());
  return hex(sha256({outer, seen}), bytes);
}

}  // namespace llm_proxy

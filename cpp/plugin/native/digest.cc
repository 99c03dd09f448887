#include "plugin/native/digest.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <array>
#include <exception>
#include <initializer_list>
#include <memory>

namespace llm_proxy {
namespace {

using Digest = std::array<unsigned char, SHA256_DIGEST_LENGTH>;

std::string hex(const unsigned char* digest, std::size_t bytes) {
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
  return hex(sha256({text}).data(), bytes);
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
  return hex(sha256({outer, seen}).data(), bytes);
}

std::string process_mac_hex(std::string_view text) {
  using Key = std::array<unsigned char, 16>;
  static const Key key = [] {
    Key random;
    if (RAND_bytes(random.data(), static_cast<int>(random.size())) != 1) std::terminate();
    return random;
  }();
  struct Free {
    void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
  };
  thread_local const std::unique_ptr<EVP_CIPHER_CTX, Free> context = [] {
    std::unique_ptr<EVP_CIPHER_CTX, Free> made(EVP_CIPHER_CTX_new());
    if (EVP_EncryptInit_ex(made.get(), EVP_aes_128_gcm(), nullptr, key.data(), nullptr) != 1) {
      std::terminate();
    }
    return made;
  }();
  // One nonce is enough where no tag is ever shown: each text has one tag.
  constexpr std::array<unsigned char, 12> kNonce{};
  std::array<unsigned char, 16> tag{};
  int written = 0;
  bool made = EVP_EncryptInit_ex(context.get(), nullptr, nullptr, nullptr, kNonce.data()) == 1;
  for (std::string_view rest = text; made && !rest.empty();) {
    const auto piece = rest.substr(0, std::size_t{1} << 30);
    made = EVP_EncryptUpdate(context.get(), nullptr, &written,
                             reinterpret_cast<const unsigned char*>(piece.data()),
                             static_cast<int>(piece.size())) == 1;
    rest.remove_prefix(piece.size());
  }
  made = made && EVP_EncryptFinal_ex(context.get(), tag.data(), &written) == 1 &&
         EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, static_cast<int>(tag.size()),
                             tag.data()) == 1;
  if (!made) std::terminate();
  return hex(tag.data(), tag.size());
}

}  // namespace llm_proxy

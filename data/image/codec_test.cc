#include "data/image/codec.h"

#include <jpeglib.h>
#include <png.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "data/test_files.h"

namespace millrace {
namespace {

using Bytes = std::vector<uint8_t>;

// Smooth, so that JPEG keeps it; every channel differs.
ByteImage Gradient(int height, int width, int channels) {
  ByteImage image(height, width, channels);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < channels; ++c) {
        image.at(y, x)[c] = static_cast<uint8_t>(c == 0   ? 40 + 150 * x / width
                                                 : c == 1 ? 30 + 180 * y / height
                                                          : 200 - 100 * x / width);
      }
    }
  }
  return image;
}

// Largest difference of the first `channels` channels.
int Difference(const ByteImage& a, const ByteImage& b, int channels) {
  EXPECT_EQ(a.height, b.height);
  EXPECT_EQ(a.width, b.width);
  int worst = 0;
  for (int y = 0; y < a.height; ++y) {
    for (int x = 0; x < a.width; ++x) {
      for (int c = 0; c < channels; ++c) {
        worst = std::max(worst, std::abs(a.at(y, x)[c] - b.at(y, x)[c]));
      }
    }
  }
  return worst;
}

// A JPEG of four inks as printers' software writes it: Adobe's marker and 255 - ink.
Bytes CmykJpeg(const ByteImage& rgb, J_COLOR_SPACE stored) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_height = rgb.height, info.image_width = rgb.width;
  info.input_components = 4;
  info.in_color_space = JCS_CMYK;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, stored);
  jpeg_set_quality(&info, 95, TRUE);
  jpeg_start_compress(&info, TRUE);
  Bytes row(rgb.width * 4);
  for (int y = 0; y < rgb.height; ++y) {
    for (int x = 0; x < rgb.width; ++x) {
      for (int c = 0; c < 3; ++c) row[4 * x + c] = rgb.at(y, x)[c];
      row[4 * x + 3] = 255;  // no black
    }
    JSAMPROW at = row.data();
    jpeg_write_scanlines(&info, &at, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  Bytes out(bytes, bytes + size);
  free(bytes);
  return out;
}

// A PNG of any kind; `sample` gives the bytes of a row.
template <typename Row>
Bytes Png(int height, int width, int type, int bits, bool interlaced, const Row& row_of) {
  Bytes out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &out,
      [](png_structp p, png_bytep from, size_t count) {
        auto* to = static_cast<Bytes*>(png_get_io_ptr(p));
        to->insert(to->end(), from, from + count);
      },
      nullptr);
  png_set_IHDR(png, info, width, height, bits, type,
               interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  if (type == PNG_COLOR_TYPE_PALETTE) {
    const png_color colours[4] = {{10, 20, 30}, {250, 0, 0}, {0, 250, 0}, {0, 0, 250}};
    png_set_PLTE(png, info, colours, 4);
    const png_byte alpha[2] = {0, 128};
    png_set_tRNS(png, info, alpha, 2, nullptr);
  }
  std::vector<Bytes> rows;
  std::vector<png_bytep> pointers;
  for (int y = 0; y < height; ++y) rows.push_back(row_of(y));
  for (Bytes& row : rows) pointers.push_back(row.data());
  png_write_info(png, info);
  png_write_image(png, pointers.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return out;
}

ByteImage Decoded(const Bytes& bytes, int channels = 4) {
  ByteImage image;
  const absl::Status status = DecodeImage(bytes, "test", {channels}, &image);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(image.channels, channels);
  return image;
}

TEST(Codec, JpegKeepsColourWithinItsQualityAlsoForOddSizesAndOnePixel) {
  for (const auto& [height, width] : {std::pair(64, 96), {37, 51}, {1, 1}, {30, 201}}) {
    const ByteImage original = Gradient(height, width, 3);
    EXPECT_LE(Difference(original, Decoded(*EncodeJpeg(original, 95)), 3), 12)
        << height << " x " << width;
  }
}

TEST(Codec, AGreyJpegGivesGreyAndColour) {
  const ByteImage original = Gradient(33, 40, 1);
  const Bytes bytes = *EncodeJpeg(original, 95);
  EXPECT_LE(Difference(original, Decoded(bytes, 1), 1), 3);
  const ByteImage colour = Decoded(bytes, 4);
  for (int c = 0; c < 3; ++c) EXPECT_NEAR(colour.at(20, 30)[c], original.at(20, 30)[0], 3);
}

TEST(Codec, CmykAndYcckJpegsGiveTheColoursThatWereSeparated) {
  const ByteImage original = Gradient(48, 64, 3);
  for (const J_COLOR_SPACE space : {JCS_CMYK, JCS_YCCK}) {
    const Bytes bytes = CmykJpeg(original, space);
    EXPECT_LE(Difference(original, Decoded(bytes), 3), 14);
    const ByteImage grey = Decoded(bytes, 1);
    const uint8_t* p = original.at(24, 32);
    EXPECT_NEAR(grey.at(24, 32)[0], 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2], 6);
  }
}

TEST(Codec, ALargeJpegIsDecodedAtTheSmallestHalfThatCoversTheTarget) {
  const Bytes bytes = *EncodeJpeg(Gradient(450, 600, 3), 90);
  ByteImage image;
  StoredSize stored;
  DecodeOptions options;
  for (const auto& [target, height, width] : {std::tuple(256, 450, 600),
                                              {128, 225, 300},
                                              {100, 113, 150},
                                              {40, 57, 75},
                                              {500, 450, 600},
                                              {0, 450, 600}}) {
    options.min_height = options.min_width = target;
    ASSERT_TRUE(DecodeImage(bytes, "large", options, &image, &stored).ok());
    EXPECT_EQ(image.height, height);
    EXPECT_EQ(image.width, width);
    EXPECT_EQ(stored.height, 450);
    EXPECT_EQ(stored.width, 600);
    // The same picture: compare with the gradient of that size.
    EXPECT_LE(Difference(Gradient(height, width, 3), image, 3), 8) << target;
  }
}

TEST(Codec, PngKeepsEveryByte) {
  for (const int channels : {1, 3}) {
    const ByteImage original = Gradient(31, 45, channels);
    const Bytes bytes = *EncodePng(original);
    EXPECT_EQ(Difference(original, Decoded(bytes, channels == 1 ? 1 : 4), channels), 0);
  }
}

TEST(Codec, PngOf16BitsAlphaPaletteOneBitAndInterlacedAreReadAsTheirColours) {
  const auto deep = [](int y) {
    Bytes row;
    for (int x = 0; x < 9; ++x) {
      for (const int v : {x * 7000, y * 5000, 65535}) {
        row.push_back(static_cast<uint8_t>(v >> 8));
        row.push_back(static_cast<uint8_t>(v));
      }
    }
    return row;
  };
  const ByteImage from_16 = Decoded(Png(7, 9, PNG_COLOR_TYPE_RGB, 16, true, deep));
  EXPECT_NEAR(from_16.at(3, 5)[0], 35000 / 257.0, 1);
  EXPECT_NEAR(from_16.at(3, 5)[1], 15000 / 257.0, 1);
  EXPECT_EQ(from_16.at(3, 5)[2], 255);

  const ByteImage alpha = Decoded(Png(2, 2, PNG_COLOR_TYPE_RGB_ALPHA, 8, false,
                                      [](int) { return Bytes{1, 2, 3, 0, 4, 5, 6, 128}; }));
  EXPECT_EQ(Bytes(alpha.at(1, 0), alpha.at(1, 0) + 3), (Bytes{1, 2, 3}));
  EXPECT_EQ(Bytes(alpha.at(1, 1), alpha.at(1, 1) + 3), (Bytes{4, 5, 6}));

  const ByteImage grey_alpha = Decoded(Png(1, 2, PNG_COLOR_TYPE_GRAY_ALPHA, 8, false, [](int) {
    return Bytes{77, 0, 200, 9};
  }));
  EXPECT_EQ(Bytes(grey_alpha.at(0, 0), grey_alpha.at(0, 0) + 3), (Bytes{77, 77, 77}));

  const ByteImage palette =
      Decoded(Png(1, 4, PNG_COLOR_TYPE_PALETTE, 2, false, [](int) { return Bytes{0b00011011}; }));
  EXPECT_EQ(Bytes(palette.at(0, 0), palette.at(0, 0) + 3), (Bytes{10, 20, 30}));
  EXPECT_EQ(Bytes(palette.at(0, 3), palette.at(0, 3) + 3), (Bytes{0, 0, 250}));

  const Bytes one_bit =
      Png(1, 8, PNG_COLOR_TYPE_GRAY, 1, false, [](int) { return Bytes{0b01010011}; });
  EXPECT_EQ(Decoded(one_bit, 1).pixels, (Bytes{0, 255, 0, 255, 0, 0, 255, 255}));
  const Bytes as_grey =
      Png(1, 4, PNG_COLOR_TYPE_PALETTE, 2, false, [](int) { return Bytes{0b00011011}; });
  EXPECT_NEAR(Decoded(as_grey, 1).at(0, 1)[0], 75, 1);  // 0.299 of 250
}

TEST(Codec, AFileCutOffAnywhereIsDamageAndNamed) {
  for (const bool jpeg : {true, false}) {
    const Bytes whole =
        jpeg ? *EncodeJpeg(Gradient(64, 64, 3), 90) : *EncodePng(Gradient(64, 64, 3));
    for (size_t size = 16; size + 12 < whole.size(); size += whole.size() / 23 + 1) {
      ByteImage image;
      const absl::Status status =
          DecodeImage(absl::MakeSpan(whole).subspan(0, size), "skin.jpg", {}, &image);
      ExpectError(status, absl::StatusCode::kDataLoss, {"skin.jpg: damaged or cut off"});
    }
  }
}

TEST(Codec, FlippedBytesNeverCrashAndNearlyAlwaysAreFound) {
  int found = 0;
  const Bytes whole = *EncodePng(Gradient(40, 40, 3));
  for (size_t at = 8; at < whole.size(); ++at) {
    Bytes broken = whole;
    broken[at] ^= 0x55;
    ByteImage image;
    found += !DecodeImage(broken, "x", {}, &image).ok();
  }
  EXPECT_GT(found, static_cast<int>(whole.size()) - 40);  // checksums: all but the end's few bytes
  const Bytes jpeg = *EncodeJpeg(Gradient(40, 40, 3), 90);
  for (size_t at = 3; at < jpeg.size(); ++at) {
    Bytes broken = jpeg;
    broken[at] ^= 0x55;
    ByteImage image;
    DecodeImage(broken, "x", {}, &image).IgnoreError();  // no checksum: some pass as other pictures
  }
}

TEST(Codec, WhatIsNoImageIsAnErrorThatNamesTheFile) {
  ByteImage image;
  ExpectError(DecodeImage({}, "a.jpg", {}, &image), absl::StatusCode::kInvalidArgument,
              {"a.jpg: is empty"});
  const std::string text = "<html>404</html>";
  ExpectError(DecodeImage(Bytes(text.begin(), text.end()), "b.jpg", {}, &image),
              absl::StatusCode::kInvalidArgument, {"b.jpg: is neither JPEG nor PNG", "3c 68"});
  // A header that claims 65500 x 65500 pixels.
  Bytes huge = *EncodeJpeg(Gradient(8, 8, 1), 90);
  for (size_t i = 0; i + 9 < huge.size(); ++i) {
    if (huge[i] == 0xff && huge[i + 1] == 0xc0) {
      for (int k = 5; k < 9; k += 2) huge[i + k] = 0xff, huge[i + k + 1] = 0xdc;
    }
  }
  ExpectError(DecodeImage(huge, "c.jpg", {}, &image), absl::StatusCode::kInvalidArgument,
              {"c.jpg", "65500 x 65500"});
}

TEST(Codec, EncodersRefuseWhatTheyCannotWrite) {
  EXPECT_FALSE(EncodeJpeg(ByteImage(), 90).ok());
  EXPECT_FALSE(EncodeJpeg(Gradient(4, 4, 2), 90).ok());
  EXPECT_FALSE(EncodeJpeg(Gradient(4, 4, 3), 0).ok());
  EXPECT_FALSE(EncodePng(Gradient(4, 4, 4)).ok());
}

}  // namespace
}  // namespace millrace

/* Header, section table, checksums and the input: spec/FORMAT.md, "File" and "INPUT".
 *
 *     offset  bytes  header
 *          0      8  magic: 89 53 51 5A 0D 0A 1A 0A
 *          8      1  version: 1 or 2
 *          9      1  number of sections n, 1 to 16
 *         10      2  0
 *         12      4  bytes of the whole file
 *         16      4  number of weights
 *         20      4  weights of the largest output channel
 *         24      4  peak activations
 *         28   12 n  section table: kind, flags, 2 bytes of 0, 4 of size, 4 of CRC-32
 *                 4  CRC-32 of all bytes before
 *                    the sections
 *                 4  CRC-32 of all bytes before */
#include "sqz_reader.h"

#include <string.h>

#define LAST_VERSION 2
#define HEADER_BYTES 28
#define ENTRY_BYTES 12
#define CRC_BYTES 4
#define MAX_SECTIONS 16

enum { GRAPH = 1, INPUT, WEIGHTS, LABELS, RECORD, ACTIVATIONS, KNOWN };

const char *sqz_error_text(sqz_error error) {
    switch (error) {
    case SQZ_OK: return "no error";
    case SQZ_UNKNOWN_FORMAT: return "not a .sqz file";
    case SQZ_TRUNCATED: return "the file is shorter than it says; copy it again";
    case SQZ_CHECKSUM: return "a checksum is wrong; copy the file again";
    case SQZ_UNSUPPORTED: return "the file is of another version or uses an unknown feature";
    case SQZ_LIMIT: return "the file asks for more than the format allows";
    case SQZ_MALFORMED: return "the file contradicts the format";
    case SQZ_FLOAT_ONLY: return "the file is for float32 alone; compress it by method rd";
    case SQZ_BUSY: return "the context is in use by another thread";
    case SQZ_WRONG_USE: return "the library was called wrongly";
    }
    return "unknown error";
}

#ifndef SQZ_NO_CHECKSUMS
/* CRC-32 of zlib and PNG. Half a byte at a time: its table has 64 bytes instead of 1,024. */
static uint32_t crc32(const uint8_t *bytes, size_t size) {
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}
#endif

static int checksum_holds(const uint8_t *bytes, size_t size, const uint8_t *stored) {
#ifdef SQZ_NO_CHECKSUMS
    (void)bytes, (void)size, (void)stored;
    return 1;
#else
    return crc32(bytes, size) == sqz_u32(stored);
#endif
}

/*     bytes                 INPUT
 *     1                     channels: 0 luma, 1 RGB, 2 BGR
 *     2                     pixels of the short side after the resize
 *     2, 2                  height and width of the crop, at most the short side
 *     4, 4 per channel      mean and deviation, the deviation above 0 */
static sqz_error read_input(sqz_bytes section, sqz_input *input) {
    const uint8_t *b = section.bytes;
    if (section.size < 7 || b[0] > 2) return SQZ_MALFORMED;
    unsigned channels = b[0] ? 3 : 1;
    if (section.size != 7 + 8 * channels) return SQZ_MALFORMED;
    input->channels = b[0];
    input->resize = sqz_u16(b + 1);
    input->crop_height = sqz_u16(b + 3);
    input->crop_width = sqz_u16(b + 5);
    if (input->crop_height < 1 || input->crop_height > input->resize || input->crop_width < 1 ||
        input->crop_width > input->resize)
        return SQZ_MALFORMED;
    for (unsigned i = 0; i < channels; i++) {
        input->mean[i] = (int32_t)sqz_u32(b + 7 + 8 * i);
        input->deviation[i] = (int32_t)sqz_u32(b + 11 + 8 * i);
        if (input->deviation[i] < 1) return SQZ_MALFORMED;
    }
    return SQZ_OK;
}

/* Read how many tensors and operations there are; sqz_read_graph reads the rest. */
static sqz_error count_graph(sqz_file *file) {
    sqz_cursor cursor = {file->graph.bytes, file->graph.bytes + file->graph.size, 0};
    file->num_tensors = sqz_count(&cursor);
    if (file->num_tensors > SQZ_MAX_TENSORS) return SQZ_LIMIT;
    for (uint32_t i = 0; i < 3 * file->num_tensors; i++) sqz_count(&cursor);
    file->num_operations = sqz_count(&cursor);
    if (file->num_operations > SQZ_MAX_OPERATIONS) return SQZ_LIMIT;
    if (cursor.failed || !file->num_tensors || !file->num_operations) return SQZ_MALFORMED;
    return SQZ_OK;
}

/* "A file MUST have each of the first five sections once and ACTIVATIONS at most once, with these
 * flags. A reader that does not know the kind of a mandatory section MUST refuse the file. A reader
 * MUST skip any other section that it does not know. The sections MUST fill the file." */
static sqz_error find_sections(const uint8_t *b, size_t size, sqz_bytes sections[KNOWN]) {
    uint32_t num_sections = b[9], place = HEADER_BYTES + ENTRY_BYTES * num_sections + CRC_BYTES;
    for (uint32_t i = 0; i < num_sections; i++) {
        const uint8_t *entry = b + HEADER_BYTES + ENTRY_BYTES * i;
        uint32_t kind = entry[0], flags = entry[1], bytes_here = sqz_u32(entry + 4);
        if (bytes_here > size - CRC_BYTES - place) return SQZ_MALFORMED;
        if (!checksum_holds(b + place, bytes_here, entry + 8)) return SQZ_CHECKSUM;
        if (flags > 1 || sqz_u16(entry + 2)) return SQZ_MALFORMED;
        if (kind >= GRAPH && kind < KNOWN) {
            if (sections[kind].bytes != NULL || flags != (kind <= WEIGHTS)) return SQZ_MALFORMED;
            sections[kind].bytes = b + place;
            sections[kind].size = bytes_here;
        } else if (flags) {
            return SQZ_UNSUPPORTED;
        }
        place += bytes_here;
    }
    if (place != size - CRC_BYTES) return SQZ_MALFORMED;
    for (int kind = GRAPH; kind <= RECORD; kind++)
        if (sections[kind].bytes == NULL) return SQZ_MALFORMED;
    return SQZ_OK;
}

static sqz_error find_parts(sqz_file *file, const uint8_t *b, size_t size) {
    static const uint8_t magic[8] = {0x89, 'S', 'Q', 'Z', '\r', '\n', 0x1a, '\n'};
    sqz_bytes sections[KNOWN];
    memset(sections, 0, sizeof sections);
    if (size == 0 || memcmp(b, magic, size < 8 ? size : 8) != 0) return SQZ_UNKNOWN_FORMAT;
    if (size < HEADER_BYTES) return SQZ_TRUNCATED;
    if (b[8] < 1 || b[8] > LAST_VERSION) return SQZ_UNSUPPORTED;
    uint32_t num_sections = b[9], place = HEADER_BYTES + ENTRY_BYTES * num_sections;
    if (size < place + 2 * CRC_BYTES) return SQZ_TRUNCATED;
    if (!checksum_holds(b, place, b + place)) return SQZ_CHECKSUM;
    if (num_sections < 1 || num_sections > MAX_SECTIONS || sqz_u16(b + 10)) return SQZ_MALFORMED;
    uint32_t file_bytes = sqz_u32(b + 12);
    if (file_bytes > SQZ_MAX_FILE) return SQZ_LIMIT;
    if (size < file_bytes) return SQZ_TRUNCATED;
    if (size > file_bytes) return SQZ_MALFORMED;
    if (!checksum_holds(b, size - CRC_BYTES, b + size - CRC_BYTES)) return SQZ_CHECKSUM;
    sqz_error error = find_sections(b, size, sections);
    if (error) return error;
    file->version = b[8];
    file->num_weights = sqz_u32(b + 16);
    file->largest_channel = sqz_u32(b + 20);
    file->peak_activations = sqz_u32(b + 24);
    file->graph = sections[GRAPH];
    file->weights = sections[WEIGHTS];
    file->labels = sections[LABELS];
    file->record = sections[RECORD];
    file->activations = sections[ACTIVATIONS];
    if (file->num_weights > SQZ_MAX_WEIGHTS ||
        file->num_weights > (uint64_t)SQZ_WEIGHTS_PER_BYTE * file->weights.size)
        return SQZ_LIMIT;
    error = read_input(sections[INPUT], &file->input);
    return error ? error : count_graph(file);
}

sqz_error sqz_open(sqz_file *file, const void *bytes, size_t size) {
    if (file == NULL) return SQZ_WRONG_USE;
    memset(file, 0, sizeof *file);
    sqz_error error = bytes == NULL ? SQZ_WRONG_USE : find_parts(file, bytes, size);
    if (error) memset(file, 0, sizeof *file); /* an empty file, which all functions refuse */
    return error;
}

/* Building text in fixed buffers: numbers, JSON strings, RFC 3339 times.
 *
 * Stands in for stdio, whose formatting code would be a good part of the monitor's resident memory.
 */
#include <string.h>

#include "log.h"

void text_init(struct text *text, char *buffer, size_t size)
{
	text->at = buffer;
	text->end = buffer + size;
	text->full = size == 0;
}

void text_bytes(struct text *text, const char *data, size_t length)
{
	if (text->full || length > (size_t)(text->end - text->at)) {
		text->full = true;
		return;
	}
	if (length) /* an empty one may be nowhere */
		memcpy(text->at, data, length);
	text->at += length;
}

void text_add(struct text *text, const char *string)
{
	text_bytes(text, string, strlen(string));
}

/* NUMBER with at least WIDTH digits. */
void text_padded(struct text *text, uint64_t number, int width)
{
	char digits[24], *at = digits + sizeof digits;

	do {
		*--at = (char)('0' + number % 10);
		number /= 10;
	} while ((number || digits + sizeof digits - at < width) && at > digits);
	text_bytes(text, at, (size_t)(digits + sizeof digits - at));
}

void text_number(struct text *text, int64_t number)
{
	if (number < 0)
		text_add(text, "-");
	text_padded(text, number < 0 ? -(uint64_t)number : (uint64_t)number, 1);
}

/* Length of the well-formed UTF-8 sequence at DATA, or 0 (Unicode 15, table 3-7). */
static size_t utf8_length(const unsigned char *data, size_t left)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t length, i;

	if (data[0] >= 0xc2 && data[0] <= 0xdf)
		length = 2;
	else if (data[0] >= 0xe0 && data[0] <= 0xef)
		length = 3;
	else if (data[0] >= 0xf0 && data[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (data[0] == 0xe0)
		low = 0xa0;
	else if (data[0] == 0xed)
		high = 0x9f;
	else if (data[0] == 0xf0)
		low = 0x90;
	else if (data[0] == 0xf4)
		high = 0x8f;
	if (length > left || data[1] < low || data[1] > high)
		return 0;
	for (i = 2; i < length; i++)
		if ((data[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

/* What one character that cannot stand for itself becomes; the end of it. */
static char *escape(char *to, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";

	*to++ = '\\';
	if (c == '"' || c == '\\')
		*to++ = (char)c;
	else if (c == '\n')
		*to++ = 'n';
	else if (c == '\r')
		*to++ = 'r';
	else {
		memcpy(to, "u00", 3);
		to[3] = hex[c >> 4];
		to[4] = hex[c & 15];
		to += 5;
	}
	return to;
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&';
}

#define EACH(byte) (0x0101010101010101ULL * (byte))

/* Bytes of WORD that are C have their highest bit set; so may bytes above such ones. */
static inline uint64_t bytes_that_are(uint64_t word, unsigned char c)
{
	uint64_t differs = word ^ EACH(c);

	return (differs - EACH(1)) & ~differs;
}

/* Whether all eight bytes of WORD are plain.  In ASCII, only '<' and '>' differ in the bit 2. */
static inline bool are_plain(uint64_t word)
{
	uint64_t odd = word | ((word - EACH(0x20)) & ~word);

	odd |= bytes_that_are(word, '"') | bytes_that_are(word, '&') | bytes_that_are(word, '\\');
	odd |= bytes_that_are(word & ~EACH(2), '<');
	return !(odd & EACH(0x80));
}

/* Copies what is plain at the start of DATA; how much that was. */
static inline size_t copy_plain(char *to, const unsigned char *data, size_t length)
{
	uint64_t word;
	size_t i = 0;

	for (; i + sizeof word <= length; i += sizeof word) {
		memcpy(&word, data + i, sizeof word);
		if (!are_plain(word))
			break;
		memcpy(to + i, &word, sizeof word);
	}
	for (; i < length && is_plain(data[i]); i++)
		to[i] = (char)data[i];
	return i;
}

/* One character that is not plain; how many bytes of DATA it had. */
static size_t copy_other(char **to, const unsigned char *data, size_t left)
{
	size_t width = data[0] < 0x80 ? 0 : utf8_length(data, left);

	if (data[0] < 0x80) {
		*to = escape(*to, data[0]);
		return 1;
	}
	if (width == 0 || (width == 3 && data[0] == 0xe2 && data[1] == 0x80 && (data[2] & 0xfe) == 0xa8)) {
		memcpy(*to, width == 0 ? "\\ufffd" : data[2] == 0xa8 ? "\\u2028" : "\\u2029", 6);
		*to += 6;
		return width ? width : 1;
	}
	memcpy(*to, data, width);
	*to += width;
	return width;
}

/* The inside of a JSON string, escaped as Docker's json-file writer does: also < > & and U+2028, U+2029.  TO has
 * room for six times LENGTH; the end of what was written. */
char *text_json_unchecked(char *to, const char *string, size_t length)
{
	const unsigned char *data = (const unsigned char *)string;
	size_t i = 0, plain;

	while (i < length) {
		plain = copy_plain(to, data + i, length - i);
		to += plain;
		i += plain;
		/* Where one such character is there are often more. */
		while (i < length && !is_plain(data[i]))
			i += copy_other(&to, data + i, length - i);
	}
	return to;
}

/* The same with its bounds watched. */
void text_json(struct text *text, const char *string, size_t length)
{
	const unsigned char *data = (const unsigned char *)string;
	char one[8], *end;
	size_t i = 0, width;

	while (i < length) {
		end = one;
		width = 1;
		if (is_plain(data[i]))
			*end++ = (char)data[i];
		else
			width = copy_other(&end, data + i, length - i);
		text_bytes(text, one, (size_t)(end - one));
		i += width;
	}
}

struct date {
	int64_t year;
	unsigned month, day;
};

/* The date of a day counted from 1970-01-01.  The C library's gmtime would bring the time zone code along.  A
 * year is taken to begin in March, so that the leap day is its last. */
static struct date date_of(int64_t days)
{
	int64_t era, day_of_era, year_of_era, day_of_year, month;
	struct date date;

	days += 719468; /* from 0000-03-01 to 1970-01-01 */
	era = days / 146097;
	day_of_era = days % 146097;
	year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	month = (5 * day_of_year + 2) / 153;
	date.day = (unsigned)(day_of_year - (153 * month + 2) / 5 + 1);
	month += month < 10 ? 3 : -9;
	date.month = (unsigned)month;
	date.year = year_of_era + era * 400 + (month <= 2);
	return date;
}

static void put_clock(struct text *text, int64_t seconds)
{
	int64_t rest = seconds % 86400;

	text_padded(text, (uint64_t)(rest / 3600), 2);
	text_add(text, ":");
	text_padded(text, (uint64_t)(rest / 60 % 60), 2);
	text_add(text, ":");
	text_padded(text, (uint64_t)(rest % 60), 2);
}

static void put_date_and_clock(struct text *text, int64_t seconds)
{
	struct date date = date_of(seconds / 86400);

	text_padded(text, (uint64_t)date.year, 4);
	text_add(text, "-");
	text_padded(text, date.month, 2);
	text_add(text, "-");
	text_padded(text, date.day, 2);
	text_add(text, "T");
	put_clock(text, seconds);
}

/* SECONDS since 1970 in UTC as 2026-11-24T03:04:05.123456789Z. */
void text_time(struct text *text, int64_t seconds, long nanoseconds)
{
	put_date_and_clock(text, seconds);
	text_add(text, ".");
	text_padded(text, (uint64_t)nanoseconds, 9);
	text_add(text, "Z");
}

/* The same ZONE seconds east of Greenwich, as 2026-11-24T03:04:05+01:00; with MICROSECONDS unless negative. */
void text_zoned_time(struct text *text, int64_t seconds, long microseconds, int64_t zone)
{
	uint64_t minutes = (uint64_t)(zone < 0 ? -zone : zone) / 60;

	put_date_and_clock(text, seconds + zone);
	if (microseconds >= 0) {
		text_add(text, ".");
		text_padded(text, (uint64_t)microseconds, 6);
	}
	if (!zone) {
		text_add(text, "Z");
		return;
	}
	text_add(text, zone < 0 ? "-" : "+");
	text_padded(text, minutes / 60, 2);
	text_add(text, ":");
	text_padded(text, minutes % 60, 2);
}

/* The same as "Jan  2 15:04:05". */
void text_stamp(struct text *text, int64_t seconds, int64_t zone)
{
	struct date date = date_of((seconds + zone) / 86400);

	text_bytes(text, &"JanFebMarAprMayJunJulAugSepOctNovDec"[3 * (date.month - 1)], 3);
	text_add(text, date.day < 10 ? "  " : " ");
	text_number(text, date.day);
	text_add(text, " ");
	put_clock(text, seconds + zone);
}

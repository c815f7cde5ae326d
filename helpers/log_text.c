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
	memcpy(text->at, data, length);
	text->at += length;
}

void text_add(struct text *text, const char *string)
{
	text_bytes(text, string, strlen(string));
}

static void text_digits(struct text *text, uint64_t number, int width)
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
	text_digits(text, number < 0 ? -(uint64_t)number : (uint64_t)number, 1);
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

/* What one character that cannot stand for itself becomes. */
static void text_escape(struct text *text, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

	if (c == '"' || c == '\\') {
		escape[1] = (char)c;
		text_bytes(text, escape, 2);
	} else if (c == '\n') {
		text_add(text, "\\n");
	} else if (c == '\r') {
		text_add(text, "\\r");
	} else {
		text_bytes(text, escape, 6);
	}
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&';
}

/* The inside of a JSON string, escaped as Docker's json-file writer does: also < > & and U+2028, U+2029. */
void text_json(struct text *text, const char *string, size_t length)
{
	const unsigned char *data = (const unsigned char *)string;
	size_t i = 0, plain, width;

	while (i < length) {
		for (plain = i; plain < length && is_plain(data[plain]); plain++)
			;
		text_bytes(text, string + i, plain - i);
		i = plain;
		if (i == length)
			break;
		width = data[i] < 0x80 ? 1 : utf8_length(data + i, length - i);
		if (data[i] < 0x80) {
			text_escape(text, data[i]);
		} else if (width == 0) {
			text_add(text, "\\ufffd");
			width = 1;
		} else if (width == 3 && data[i] == 0xe2 && data[i + 1] == 0x80 && (data[i + 2] & 0xfe) == 0xa8) {
			text_add(text, data[i + 2] == 0xa8 ? "\\u2028" : "\\u2029");
		} else {
			text_bytes(text, string + i, width);
		}
		i += width;
	}
}

/* SECONDS since 1970 in UTC as 2026-11-24T03:04:05.123456789Z.  The C library's gmtime would bring the time
 * zone code along.  Days to a date: a year is taken to begin in March, so that the leap day is its last. */
void text_time(struct text *text, int64_t seconds, long nanoseconds)
{
	int64_t days = seconds / 86400, rest = seconds % 86400;
	int64_t era, day_of_era, year_of_era, day_of_year, month, day;

	days += 719468; /* from 0000-03-01 to 1970-01-01 */
	era = days / 146097;
	day_of_era = days % 146097;
	year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	month = (5 * day_of_year + 2) / 153;
	day = day_of_year - (153 * month + 2) / 5 + 1;
	month += month < 10 ? 3 : -9;
	text_digits(text, (uint64_t)(year_of_era + era * 400 + (month <= 2)), 4);
	text_add(text, "-");
	text_digits(text, (uint64_t)month, 2);
	text_add(text, "-");
	text_digits(text, (uint64_t)day, 2);
	text_add(text, "T");
	text_digits(text, (uint64_t)(rest / 3600), 2);
	text_add(text, ":");
	text_digits(text, (uint64_t)(rest / 60 % 60), 2);
	text_add(text, ":");
	text_digits(text, (uint64_t)(rest % 60), 2);
	text_add(text, ".");
	text_digits(text, (uint64_t)nanoseconds, 9);
	text_add(text, "Z");
}
